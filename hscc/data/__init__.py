"""The images: sources, manifest, near-copies, splits, decoding and phantoms."""
