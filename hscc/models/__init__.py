"""Backbones by name, how they are stored, and their ONNX form."""
