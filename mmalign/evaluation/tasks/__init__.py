"""One file a task: retrieval, zero-shot classification, multi-label, regression, linear probe."""
