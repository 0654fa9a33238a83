"""The registered network in use: pictures in, probabilities and heat maps out."""
