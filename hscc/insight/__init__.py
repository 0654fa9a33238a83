"""What compression did inside a network: where rank went, what each cluster is worth, where the network looks."""
