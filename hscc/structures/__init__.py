"""What a layer may become: one module per structure."""
