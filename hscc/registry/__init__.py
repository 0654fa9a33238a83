"""Which network deserves a place in the model registry, and how it gets there."""
