"""Echocardiogram cines: reading, transforms, encoders."""
