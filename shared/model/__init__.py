"""What we store and reason about, with the standard library only: document, job, locator, media, space."""
