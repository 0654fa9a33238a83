"""The registered network at work: pictures in, probabilities and heat maps out, with neither DVC nor a training set."""
