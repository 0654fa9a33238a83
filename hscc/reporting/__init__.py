"""The report: one HTML file with its figures, made from what earlier stages wrote; computes no score of its own."""
