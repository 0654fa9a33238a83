"""How a layer is divided: output positions into regions, input channels into clusters."""
