"""Configuration: the arguments of a class, the check of every key, and what a command line overrides."""
