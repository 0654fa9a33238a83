"""What the tables say: one module per table, for the page, the documents and the terminal alike."""
