"""What becomes of a finished network on its way to a device."""
