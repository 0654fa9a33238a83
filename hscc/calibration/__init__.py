"""Calibration: what a network's layers see (second moments of inputs) and what its decision feels (sensitivities)."""
