"""The service that works: claim, download, extract, chunk, embed, store, swap."""
