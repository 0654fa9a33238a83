"""A workspace of the user's own: look at the data, propose its spec, write the folder that `dvc repro` runs in."""
