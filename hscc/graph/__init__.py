"""Rewriting ONNX graphs: the same function at less cost."""
