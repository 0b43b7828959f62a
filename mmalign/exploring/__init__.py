"""A page on this machine, on which a person searches an embedded table."""
