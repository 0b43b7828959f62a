"""Molecule encoders."""
