"""What a reader sees: the HTML page, the figures in Markdown documents, tables on a terminal. Computes no score."""
