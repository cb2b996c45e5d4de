"""The `stream-detector` command. Each module NAME_command wires a command and those near it."""

import os
import sys

from stream_detector.runtime.startup import guard_startup

__all__ = ["main"]


def main() -> None:
    """Runs one command; an error is one plain line and its own exit code.

    Of several processes that `torchrun` starts, one runs it, and the others help it train.
    """
    guard_startup()
    from stream_detector.runtime import program

    sys.argv[1:] = map(_harmless, sys.argv[1:])
    from stream_detector.cli.app import app

    sys.exit(program.run(_together if int(os.environ.get("WORLD_SIZE", "1")) > 1 else app))


def _harmless(argument: str) -> str:
    """Escapes an option's name: the parser's own error shows an unknown one as it is."""
    from stream_detector.foreign import printable

    name, equals, value = argument.partition("=")
    return printable(name, None) + equals + value if argument.startswith("--") else argument


def _together() -> None:
    from stream_detector.cli.app import app
    from stream_detector.gan.distributed import leading
    from stream_detector.gan.training import follow

    with leading(follow) as leads:
        if leads:
            app()
