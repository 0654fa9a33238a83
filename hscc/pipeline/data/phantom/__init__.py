"""Drawn MRI-like images of the four classes, for machines without the data set."""
