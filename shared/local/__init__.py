"""The embedded servers of a laptop: Postgres, a Cloud Storage stand-in and a Pub/Sub endpoint as child processes.

They are stand-ins, never a feature: nothing in the product knows that they exist, and they refuse to start in the
cloud. `stack.LocalStack` starts all of them and answers with the environment that points the real clients at them.
"""
