"""Execution streams: work is done in order and at once, or on CUDA by a stream of its own, as graphs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import torch

__all__ = ["ExecutionStream", "Work"]

WARM = 2  # calls before a graph is recorded: libraries set themselves up in them
CAPTURING = Lock()

Work = Callable[[], object]


class ExecutionStream:
    """Does work when it is called for: nothing waits, and no graph is recorded."""

    pinned = False

    @classmethod
    def of(cls, device: torch.device) -> "ExecutionStream":
        """The stream for a device."""
        return CudaStream() if device.type == "cuda" else cls()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sends what is called for inside to this stream."""
        yield

    def as_graph(self, work: Work) -> Work:
        """Prepares work to be repeated; its shapes and addresses must not depend on data."""
        return work

    def send(self, copy: Work) -> None:
        """Copies to the device while work is done there; what is called for later finds the copy."""
        copy()

    def begin(self) -> None:
        """Waits until what is copied from and to may be overwritten."""

    def wait(self) -> None:
        """Waits until all is done."""


class CudaStream(ExecutionStream):
    """A stream of CUDA, and one for copies from pinned memory; waiting needs no lock of Python's."""

    pinned = True

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._copies: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._sent: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()  # graphs take turns, and leave nothing in it

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sends what is called for inside to this stream, after what was called for outside."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def as_graph(self, work: Work) -> Work:
        """Records work as a graph, which is launched at once; other threads may go on using the device meanwhile."""
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
