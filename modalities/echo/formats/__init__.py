"""Echocardiogram file formats."""
