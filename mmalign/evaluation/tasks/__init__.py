"""Tasks, one file each: retrieval, zero-shot classification, multi-label, regression, linear probe."""
