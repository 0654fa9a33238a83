"""What the command line does beside the stages of ``dvc.yaml``: one module per command."""
