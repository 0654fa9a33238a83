"""Refit of a compressed network's factors without labels or gradients."""
