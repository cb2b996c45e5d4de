"""The health of a worker: its threads note it, and others may read it, also while the loop hangs."""

import time
from collections.abc import Callable
from math import nan

__all__ = ["Health"]

STARTING = 600.0  # seconds that one step of the start may take: scoring may have to be compiled
START = "start"  # the kind of trouble that is none but itself
BEHIND = 8.0  # seconds that records may wait for a commit

Teller = Callable[[str | None], None]


class Health:
    """Signs of life and named troubles of one worker; every method may be called from any thread.

    `turn_limit`: the loop is taken as hung when it has not turned for so many seconds. A call with a
    time limit of its own counts as turning while it waits.
    """

    def __init__(self, turn_limit: float = 8.0) -> None:
        self.last_commit = nan
        """When the last transaction was committed, Unix time; NaN before the first."""
        self.broker_reachable: bool | None = None
        """Whether the broker answered the last question; None before the first."""
        self._limit = turn_limit
        self._starting = True
        self._turned_at = time.monotonic()
        self._behind_since: float | None = None
        self._troubles: dict[str, tuple[str, float]] = {}
        self._remarks: dict[str, str] = {}
        self.trouble(START, "starting")

    def beat(self) -> None:
        """Notes that the loop turned, or waits in a call that ends by itself."""
        self._turned_at = time.monotonic()

    def began(self) -> None:
        """Notes that the start is over: from here on the loop turns."""
        self.beat()
        self._starting = False
        self.trouble(START, None)

    def ended(self) -> None:
        """Notes that the worker has ended, in whatever way."""
        self.trouble(START, "the worker has ended")

    def trouble(self, kind: str, why: str | None) -> None:
        """Notes why the worker is not ready; None ends the trouble of that kind."""
        if why is None:
            self._troubles.pop(kind, None)
        else:
            since = self._troubles.get(kind, ("", time.time()))[1]
            self._troubles[kind] = why, since

    def teller(self, kind: str) -> Teller:
        """Makes `trouble` of one kind for the loop's own thread; a call is a sign of life."""

        def tell(why: str | None) -> None:
            self.beat()
            self.trouble(kind, why)

        return tell

    def remark(self, kind: str, text: str | None) -> None:
        """Notes a remark on a worker that is ready; None takes it back."""
        if text is None:
            self._remarks.pop(kind, None)
        else:
            self._remarks[kind] = text

    def committed(self) -> None:
        """Notes that a transaction was committed."""
        self.last_commit, self._behind_since = time.time(), None

    def behind(self, waiting: bool) -> None:  # noqa: FBT001 - what is told
        """Notes whether there is something to be committed."""
        if not waiting:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = time.time()

    @property
    def turn_age(self) -> float:
        """Seconds since the loop turned."""
        return time.monotonic() - self._turned_at

    @property
    def is_alive(self) -> bool:
        """Tells whether the loop turned within the limit; a step of the start may take ten minutes."""
        return self.turn_age <= (STARTING if self._starting else self._limit)

    @property
    def in_trouble_since(self) -> float:
        """The time when the oldest present trouble began, Unix time; NaN without any."""
        return min((since for _, since in self._found()), default=nan)

    def troubles(self) -> list[str]:
        """The reasons why the worker is not ready; empty when it is."""
        return [why for why, _ in self._found()]

    def remarks(self) -> list[str]:
        """The remarks on a worker that is ready."""
        return list(self._remarks.values())

    def _found(self) -> list[tuple[str, float]]:
        """Lists every trouble with its beginning; those that a hung loop cannot note itself come first."""
        found, now, age = [], time.time(), self.turn_age
        if not self.is_alive:
            found.append((f"the loop has not turned for {age:.0f} s", now - age))
        behind = self._behind_since
        if behind is not None and now - behind > BEHIND:
            found.append((f"records are waiting, and nothing was committed for {now - behind:.0f} s", behind))
        troubles = dict(self._troubles)
        start = troubles.pop(START, None)
        found += troubles.values()
        return [start] if start and not found else found  # to start is a reason only where there is no better one
