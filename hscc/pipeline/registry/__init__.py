"""The model registry: which network is registered, promoted or rolled back, and why."""
