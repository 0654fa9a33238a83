"""Training: one loop, two losses (labels for the baseline, its logits for what is compressed)."""
