"""`mmalign.report`: a self-contained HTML page about one model and its data."""
