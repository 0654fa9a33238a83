"""Side-by-side measurements; README.md lists the scripts and the question that each answers."""
