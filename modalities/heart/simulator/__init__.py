"""Simulated hearts: ECG, echocardiogram and report of known ejection fraction."""
