"""A consumed message, and text from outside made safe to show."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import methodcaller
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONTROL", "Header", "Message", "Place", "offsets_of", "printable", "raw", "runs", "values_of"]

Header = tuple[str, bytes | None]
Place = tuple[str, int]
"""Topic and partition."""

TOPIC, PARTITION, OFFSET, VALUE = map(methodcaller, ("topic", "partition", "offset", "value"))
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that text from outside may not bring to a terminal or a log line."""


class Message(Protocol):
    """A consumed record; `confluent_kafka.Message` is one."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def key(self) -> bytes | str | None: ...
    def value(self) -> bytes | str | None: ...
    def headers(self) -> list[tuple[str, Any]] | None: ...
    def timestamp(self) -> tuple[int, int]: ...


def printable(text: str) -> str:
    """Text from outside made safe for a terminal and a log line, at most 500 characters."""
    return CONTROL.sub("\ufffd", text[:500])


def raw(value: bytes | str | None) -> bytes | None:
    """A key or value as bytes; clients may hand out text."""
    return value.encode() if isinstance(value, str) else value


def values_of(messages: Sequence[Message]) -> list[bytes | None]:
    """The messages' values as bytes."""
    values = list(map(VALUE, messages))
    return list(map(raw, values)) if str in set(map(type, values)) else cast("list[bytes | None]", values)


def offsets_of(messages: Sequence[Message]) -> NDArray[np.int64]:
    """The messages' offsets, int64 [message]."""
    return np.array(list(map(OFFSET, messages)), dtype=np.int64)


def runs(messages: Sequence[Message]) -> Iterator[tuple[Place, Sequence[Message]]]:
    """Messages as they come, cut where the next one is of another partition."""
    if not messages:
        return
    ends = np.diff(np.array(list(map(PARTITION, messages)), dtype=np.int64)) != 0
    topics = list(map(TOPIC, messages))
    if topics.count(topics[0]) < len(topics):
        ends |= [topic != following for topic, following in pairwise(topics)]
    cuts = (np.flatnonzero(ends) + 1).tolist()
    for first, end in pairwise((0, *cuts, len(messages))):
        yield (messages[first].topic() or "", messages[first].partition() or 0), messages[first:end]
