"""The contract between services: what is said (`catalogue`) and how it travels (`envelope`)."""
