"""Pages of the report: each function returns blocks, which the template renders."""
