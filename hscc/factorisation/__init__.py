"""The algebra of the method: spectra of clusters, their factors, and projections of channels."""
