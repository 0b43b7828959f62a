"""Metrics of predictions, bootstrap intervals, labels, selective prediction."""
