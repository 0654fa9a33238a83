"""What a network's layers receive (second moments of inputs) and how its outputs depend on them (sensitivities)."""
