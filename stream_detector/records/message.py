"""Messages as they are consumed."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, cast, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrivals", "Header", "Message", "TopicPartition", "byte_count", "raw", "values_of"]

Header = tuple[str, bytes | None]
TopicPartition = tuple[str, int]
"""The name of a topic and the number of a partition; with an offset it is `confluent_kafka.TopicPartition`, imported as
`TopicPartitionOffset`."""


class Message(Protocol):
    """A consumed record; `confluent_kafka.Message` is one."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | str | None: ...
    def value(self) -> bytes | str | None: ...
    def headers(self) -> list[tuple[str, Any]] | None: ...
    def timestamp(self) -> tuple[int, int]: ...


def raw(value: bytes | str | None) -> bytes | None:
    """A key or value as bytes; clients may hand out text."""
    return value.encode() if isinstance(value, str) else value


def values_of(messages: Sequence[Message]) -> list[bytes | None]:
    """The messages' values as bytes."""
    values = [message.value() for message in messages]  # a comprehension calls a method in a third of a map's time
    return list(map(raw, values)) if str in set(map(type, values)) else cast("list[bytes | None]", values)


class Arrivals(Sequence[Message]):
    """Messages as they came, with what all who handle them ask for, read off once.

    `offsets` is int64 [message]; `runs` are stretches of messages that are of one topic and partition.
    """

    __slots__ = ("messages", "offsets", "runs")

    def __init__(
        self, messages: Sequence[Message], offsets: NDArray[np.int64], runs: Sequence[tuple[TopicPartition, slice]]
    ) -> None:
        self.messages, self.offsets, self.runs = messages, offsets, runs

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "Arrivals":
        """Reads offsets and runs off the messages, unless that was done before."""
        if isinstance(messages, Arrivals):
            return messages
        offsets = np.array([message.offset() for message in messages], dtype=np.int64)
        return cls(messages, offsets, tuple(_runs(messages)))

    def rows(self, positions: NDArray[np.int64]) -> tuple[tuple[TopicPartition, slice], ...]:
        """Runs of rows that are of one partition; `positions` [row] are those of the rows' messages, ascending."""
        found = []
        for place, run in self.runs:
            first, end = np.searchsorted(positions, (run.start, run.stop)).tolist()
            if first < end:
                found.append((place, slice(first, end)))
        return tuple(found)

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> "Arrivals": ...
    def __getitem__(self, at: int | slice) -> "Message | Arrivals":
        if not isinstance(at, slice):
            return self.messages[at]
        first, end, step = at.indices(len(self.messages))
        if step != 1:
            return Arrivals.of(self.messages[at])
        runs = [
            (place, slice(max(run.start, first) - first, min(run.stop, end) - first))
            for place, run in self.runs
            if max(run.start, first) < min(run.stop, end)
        ]
        return Arrivals(self.messages[at], self.offsets[at], runs)


def byte_count(messages: Sequence[Message]) -> int:
    """Counts the bytes of the messages' values."""
    return sum(map(len, filter(None, [message.value() for message in messages])))


def _runs(messages: Sequence[Message]) -> Iterator[tuple[TopicPartition, slice]]:
    if not messages:
        return
    ends = np.diff(np.array([message.partition() for message in messages], dtype=np.int64)) != 0
    topics = [message.topic() for message in messages]
    if len(set(topics)) > 1:
        ends |= [topic != following for topic, following in pairwise(topics)]
    cuts = (np.flatnonzero(ends) + 1).tolist()
    for first, end in pairwise((0, *cuts, len(messages))):
        yield (messages[first].topic() or "", messages[first].partition() or 0), slice(first, end)
