"""Hand-crafted ECG features."""
