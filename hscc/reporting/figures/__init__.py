"""One module a figure: rows in, SVG out."""
