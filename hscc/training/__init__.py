"""Training: one loop, two losses (labels for the baseline, the baseline's logits for what is compressed)."""
