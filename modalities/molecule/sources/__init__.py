"""Published data sets of molecules and descriptions."""
