"""Published ECG data sets."""
