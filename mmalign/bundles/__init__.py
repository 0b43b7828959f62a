"""Bundles: a trained model as a folder of checked files, its card and its headline figures."""
