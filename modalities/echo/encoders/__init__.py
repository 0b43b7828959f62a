"""Echocardiogram encoders."""
