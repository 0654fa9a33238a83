"""What survives inside a compressed network and what it looks at: one module per kind of picture."""
