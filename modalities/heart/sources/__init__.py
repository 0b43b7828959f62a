"""Data sets of ECG, echocardiogram and report."""
