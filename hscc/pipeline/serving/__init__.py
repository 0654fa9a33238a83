"""The registered network at work: images in, probabilities and heat maps out."""
