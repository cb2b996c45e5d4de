"""What librdkafka tells only between the lines: who we are to the group, and what its connections went through."""

import struct
import time
from collections.abc import Callable

import orjson

__all__ = ["Connections", "is_member"]

METADATA = b"CGMDv2:"
STATS_WAIT = 2.0  # seconds; statistics come far more often
STATS_PAUSE = 0.05  # seconds that the client is served at a time meanwhile


class Connections:
    """What the connections of one producer after another went through, as far as its callbacks tell.

    `shaken` says that a request may have been sent twice, or its answer be still on its way.
    """

    def __init__(self) -> None:
        self.shaken = False
        self._stats = ""
        self._reports = 0
        self._known: tuple[int, int] | None = None

    def renew(self) -> None:
        """Begins anew with another producer; what its connections went through until the next look does not count."""
        self._stats, self._known = "", None

    def on_stats(self, stats: str) -> None:
        """Takes what the client tells of its statistics, in JSON."""
        self._stats = stats
        self._reports += 1

    def look_back(self) -> bool:
        """Whether a connection was lost since the last look; what else shook is forgotten."""
        before, self._known = self._known, _faults(self._stats)
        self.shaken = before is not None and self._known != before
        return self.shaken

    def were_lost(self) -> bool:
        """Whether a connection was lost since the last look; no look itself."""
        return self._known is not None and _faults(self._stats) != self._known

    def forgive(self) -> None:
        """What was lost until now does not count."""
        self._known = _faults(self._stats)

    def inquire(self, serve: Callable[[float], None]) -> None:
        """After a call that took long: they were shaken, unless fresh statistics say that no connection was lost.

        `serve` lets the client call back for so many seconds.
        """
        stale, deadline = self._reports, time.monotonic() + STATS_WAIT
        while self._reports == stale and time.monotonic() < deadline:
            serve(STATS_PAUSE)
        self.shaken = self.shaken or self._reports == stale or _faults(self._stats) != self._known


def is_member(membership: bytes | None) -> bool:
    """Whether group metadata names a live member: the broker does not check a generation of -1.

    The form is librdkafka's own (`CGMDv2:`, generation, group, member); another one passes unchecked.
    """
    if not membership:
        return False
    if not membership.startswith(METADATA):
        return True
    head = len(METADATA)
    try:
        (generation,) = struct.unpack_from("=i", membership, head)
        _group, member, *_rest = membership[head + 4 :].split(b"\0")
    except (struct.error, ValueError):
        return True
    return generation >= 0 and bool(member)


def _faults(stats: str) -> tuple[int, int] | None:
    """How often connections to brokers were lost, and requests timed out; None when not told."""
    try:
        brokers = orjson.loads(stats)["brokers"].values()
        return sum(each["disconnects"] for each in brokers), sum(each["req_timeouts"] for each in brokers)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
