"""What becomes of a finished network on its way to a device: quantised, exported with its preprocessing."""
