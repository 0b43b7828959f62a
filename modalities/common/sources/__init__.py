"""Parts of data sources: published data sets and simulated data."""
