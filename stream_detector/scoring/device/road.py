"""How work gets to a device: in order at once, or on CUDA by a stream of its own, recorded and replayed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import torch

__all__ = ["Road", "Work"]

WARM = 2  # calls before one is captured: libraries set themselves up in them
CAPTURING = Lock()

Work = Callable[[], None]


class Road:
    """Where work is done when it is called for: nothing waits, nothing is recorded."""

    pinned = False

    @classmethod
    def of(cls, device: torch.device) -> "Road":
        """The one to a device."""
        return Stream() if device.type == "cuda" else cls()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """What is called for inside goes this way."""
        yield

    def captured(self, work: Work) -> Work:
        """The same work, which must not depend on data in its shapes or addresses."""
        return work

    def copied(self) -> None:
        """Marks the last copy to the device."""

    def wait_for_copies(self) -> None:
        """Until what is marked is there."""

    def wait(self) -> None:
        """Until all is done."""


class Stream(Road):
    """A stream of CUDA, pinned memory at its ends; waiting needs no lock of Python's."""

    pinned = True

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._last: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]

    @contextmanager
    def taken(self) -> Iterator[None]:
        """After what was called for outside."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def captured(self, work: Work) -> Work:
        """As a graph, which is launched at once; meanwhile other threads may go on using the device."""
        graph = torch.cuda.CUDAGraph()
        with CAPTURING:
            for _ in range(WARM):
                work()
            self.wait()
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                work()
        return graph.replay

    def copied(self) -> None:
        self._last.record()

    def wait_for_copies(self) -> None:
        self._last.synchronize()

    def wait(self) -> None:
        self._stream.synchronize()
