"""Safe access to files in a folder, a tar or a zip."""
