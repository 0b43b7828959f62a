"""Files of clips and of segment ids: one module for each kind."""
