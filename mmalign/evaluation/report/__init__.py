"""Results as tables, JSON and figures."""
