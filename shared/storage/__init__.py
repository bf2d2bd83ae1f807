"""The bucket: `gcs` is the one adapter of `shared.ports.storage`; `errors` says what its vendor's errors mean to us."""
