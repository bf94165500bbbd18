"""Weight files: found, fetched, read, written."""
