"""Figures of predictions: weighted metrics, intervals, labels, uncertainty."""
