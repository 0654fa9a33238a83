"""Low-rank compression under an exact budget: partitions, ranks, factors, modules."""
