"""Paired ECG, echocardiogram and report: data sources and a heart simulator."""
