"""How long a network takes and how the clock is kept honest; knows ONNX Runtime and no network of its own."""
