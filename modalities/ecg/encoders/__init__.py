"""ECG encoders."""
