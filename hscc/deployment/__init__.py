"""What leaves the laboratory: ONNX files that need neither hscc nor torch."""
