"""ECG file formats."""
