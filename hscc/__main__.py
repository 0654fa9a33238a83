"""The command ``hscc``, and ``python -m hscc``, with which a workspace's stages run its own copy of the code."""

import gc
import sys

from hscc.errors import MissingExtraError, requires_extra


def main() -> None:
    """Run the command line, which comes with the extra ``pipeline``."""
    gc.set_threshold(50_000)  # objects; at 700 a sixth of a short command goes into looking through imported modules
    try:
        with requires_extra("pipeline", "the command line"):
            from hscc.pipeline.cli.main import app
    except MissingExtraError as error:
        sys.exit(f"error: {error}")
    app(prog_name="hscc")


if __name__ == "__main__":
    main()
