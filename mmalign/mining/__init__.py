"""Hard negatives found by a trained model."""
