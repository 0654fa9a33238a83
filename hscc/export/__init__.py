"""Networks as files that run elsewhere: ONNX and ``.pt2``, with preprocessing, in fp32 or int8."""
