"""The images: manifest, near-copies, splits and decoding."""
