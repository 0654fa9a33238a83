"""Scores with their errors, paired comparisons, latency, and the report on them."""
