"""The command ``hscc``, and ``python -m hscc``, with which a workspace's stages run its own copy of the code."""

import sys


def main() -> None:
    """Run the command line, which comes with the extra ``pipeline``."""
    try:
        from hscc.pipeline.cli.main import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "hscc":
            raise
        sys.exit(f"error: the command line needs {error.name}; install it with: pip install 'hscc[pipeline]'.")
    app(prog_name="hscc")


if __name__ == "__main__":
    main()
