"""One module per stage of ``dvc.yaml``: parameters and files in, files out."""
