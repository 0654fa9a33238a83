"""Scores with their errors, paired comparisons, and the typed rows that hold them."""
