"""The model registry: which network is registered, promoted, rolled back, and why."""
