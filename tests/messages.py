"""Consumed messages, as the client hands them out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stored:
    """A message of the topic `telemetry`; `stamp` is its kind of timestamp and milliseconds since 1970."""

    at: int
    content: bytes | None
    in_partition: int = 0
    name: bytes | None = None
    head: tuple[tuple[str, bytes | None], ...] = ()
    stamp: tuple[int, int] = (1, 1_700_000_000_000)

    def topic(self):
        return "telemetry"

    def partition(self):
        return self.in_partition

    def offset(self):
        return self.at

    def key(self):
        return self.name

    def value(self):
        return self.content

    def headers(self):
        return list(self.head) or None

    def timestamp(self):
        return self.stamp
