"""How work gets to a device: in order at once, or on CUDA by a stream of its own, recorded and replayed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import torch

__all__ = ["Road", "Work"]

WARM = 2  # calls before one is captured: libraries set themselves up in them
CAPTURING = Lock()

Work = Callable[[], object]


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

    def send(self, copy: Work) -> None:
        """Copies to the device, beside what is done there; what is called for later finds it there."""
        copy()

    def begin(self) -> None:
        """Until what is copied from and to may be written over."""

    def wait(self) -> None:
        """Until all is done."""


class Stream(Road):
    """A stream of CUDA, and one for copies from pinned memory; waiting needs no lock of Python's."""

    pinned = True

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._copies: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._sent: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()  # graphs take turns, and leave nothing in it

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
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                work()
        return graph.replay

    def send(self, copy: Work) -> None:
        with torch.cuda.stream(self._copies):
            copy()
            self._sent.record()
        self._stream.wait_event(self._sent)

    def begin(self) -> None:
        self._sent.synchronize()
        self._copies.wait_stream(self._stream)

    def wait(self) -> None:
        self._stream.synchronize()
