"""The `headrace` command. It starts the embedded stack, and talks to a running one over HTTP, never to its database.

In reading order: `app` (the commands), `look` (colours, units, tables), `client` (the API), `board` (files on their
way), `follow` (from uploads to their ends), `commands/`.
"""
