"""Side-by-side measurements: each prints its table and says on what."""
