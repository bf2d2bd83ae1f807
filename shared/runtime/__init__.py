"""What runs a service: `app` (the same in the cloud, on the laptop, in tests), `health`, `problems` (HTTP errors)."""
