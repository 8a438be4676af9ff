"""The command `sonosynth`, which is ``python -m sonosynth`` too."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it is still being imported ends it as quietly as one later."""
    try:
        from sonosynth.cli.main import app
    except KeyboardInterrupt:
        sys.exit(130)
    app(prog_name="sonosynth")


if __name__ == "__main__":
    main()
