"""Which rows form a batch, and the batch itself."""
