"""Encoders that several modalities have, and their parts."""
