"""`python -m stream_detector`: the command, for where the script is not on the path."""

from stream_detector.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
