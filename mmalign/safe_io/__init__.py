"""Safe reading and writing: whole files or none, YAML and tensors without code, text and progress on the terminal."""
