"""Which structure and ranks each layer gets under a budget."""
