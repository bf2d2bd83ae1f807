"""Decides: which object a notification hints at, what is live there, and whether there is anything to do."""
