"""Towers as ONNX and torch.export programs, with a comparison of their outputs to the model's."""
