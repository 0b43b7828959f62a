"""Evaluation: retrieval, zero-shot tasks and linear probes, with bootstrap confidence intervals."""
