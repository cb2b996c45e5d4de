"""Says that scoring is being compiled: a minute of silence looks like a fault."""

from collections.abc import Callable
from typing import Any

from numba.core import event

__all__ = ["announce"]

NOTICE = "Compiling the scoring kernel; once on this machine, one to two minutes."


class _Once(event.Listener):
    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._told = tell, False

    def on_start(self, event: Any) -> None:
        kernel = "stream_detector.scoring.compiled.kernel" in str(event.data["dispatcher"].py_func.__module__)
        if kernel and not self._told:
            self._told = True
            self._tell(NOTICE)

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


def announce(tell: Callable[[str], None]) -> None:
    """Calls `tell` with a notice when the kernel is compiled for the first time from here on; not when it is at hand."""
    event.register("numba:compile", _Once(tell))  # type: ignore[no-untyped-call]
