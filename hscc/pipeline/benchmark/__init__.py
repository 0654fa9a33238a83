"""How long networks take and how much memory they need, compressed and dense side by side."""
