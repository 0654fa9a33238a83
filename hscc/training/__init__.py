"""Training: one loop, two losses (labels for the dense baseline, its logits for compressed networks)."""
