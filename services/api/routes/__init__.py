"""The endpoints: each module makes `Route` values from the ports that it needs."""
