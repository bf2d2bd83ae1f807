"""The four services: `ingest` decides, `process` works, `recover` repairs, `api` answers. None imports another."""
