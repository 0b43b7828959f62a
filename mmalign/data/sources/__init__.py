"""Sources: each lists records and fetches the files that they name."""
