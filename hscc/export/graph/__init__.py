"""Rewrites of ONNX graphs that keep what a graph computes: one module per family, applied by `simplify`."""
