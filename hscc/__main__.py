"""``python -m hscc``: what the stages of ``dvc.yaml`` call, so that a workspace runs its own copy of the code."""

from hscc.cli import app

if __name__ == "__main__":
    app(prog_name="hscc")
