"""Features of molecules on disk."""
