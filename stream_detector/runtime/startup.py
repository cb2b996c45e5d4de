"""Guards the start of a program against Ctrl-C, before it loads anything.

This module loads nothing that Python has not loaded before, but for `signal` and `atexit`. Python's own start, some
hundredths of a second, comes before any line of ours and answers Ctrl-C as Python does.
"""

import atexit
import os
import signal
import sys

__all__ = ["INTERRUPTED", "guard_startup"]

INTERRUPTED = 130  # the exit code of a program that Ctrl-C has ended


def guard_startup() -> None:
    """Has Ctrl-C end the program at once while it loads, and opens closed streams to nowhere; call it first."""
    _on_interrupt()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _on_interrupt() -> None:
    try:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    except ValueError:  # only the main thread may: another one is not asked
        return
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # the exit code stands by then: Python would lose it
