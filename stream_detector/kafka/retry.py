"""Retries work that fails: it waits longer each time, says so now and then, and gives up in the end."""

import time
from collections.abc import Callable
from threading import Event
from typing import Self, TypeVar

import structlog

from stream_detector.config import WorkerConfig
from stream_detector.errors import AuthorizationError, KafkaError
from stream_detector.health import Health

__all__ = ["Retry"]

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds
QUIET = 5.0  # seconds between two log lines about the same trouble
CALM = 60.0  # seconds without a failure after which the next one is new trouble
DENIALS_IN_A_ROW = 3

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class Retry:
    """Counts failures of one kind of work since it last succeeded, and backs off from one attempt to the next.

    `limit` is the retry budget: how long failures may go on, seconds. `tell` is given the last failure in words, and
    None when the work succeeds again.
    """

    def __init__(self, work: str, limit: float, tell: Callable[[str | None], None] = lambda _: None) -> None:
        self.failing = False
        """Whether the last attempt failed."""
        self._work = work
        self._limit = limit
        self._tell = tell
        self._since: float | None = None
        self._last = 0.0
        self._logged_at = -QUIET
        self._pause = FIRST_PAUSE
        self._denials = 0

    @classmethod
    def of(cls, worker: WorkerConfig, work: str, health: Health) -> Self:
        """Gives the budget for which a worker may be without its broker; a failure is a trouble of its health."""
        return cls(work, worker.unavailable_timeout_ms / 1000, health.teller(work))

    @property
    def waiting(self) -> bool:
        """Tells whether it is too early for another attempt."""
        return self.failing and time.monotonic() < self._last + self._pause

    def succeeded(self) -> None:
        """Notes that the work succeeded."""
        if self._since is not None:
            if self._logged_at >= self._since:
                log.info("recovered", work=self._work, after_seconds=round(time.monotonic() - self._since, 1))
            self._tell(None)
        self.failing, self._since = False, None

    def run(self, attempt: Callable[[], Result], stop: Event) -> Result | None:
        """Makes an attempt until it does not fail with a `KafkaError`, and gives its result; None when told to stop.

        Raises the error when the budget is used up, and any other error of `attempt` at once.
        """
        while not stop.is_set():
            try:
                result = attempt()
            except KafkaError as error:
                self.failed(error)
                stop.wait(self._pause)
            else:
                self.succeeded()
                return result
        return None

    def failed(self, error: KafkaError) -> None:
        """Notes that the work failed. Raises the error when the budget is used up.

        A missing permission does not come by waiting: the third `AuthorizationError` in a row is raised,
        even when something else that is permitted succeeds in between.
        """
        now = time.monotonic()
        if now - self._last > CALM:
            self._since, self._denials = None, 0
        if self._since is None:
            self.failing, self._since, self._pause = True, now, FIRST_PAUSE
        self._last, self._pause = now, min(2 * self._pause, LONGEST_PAUSE)
        self._tell(f"{self._work}: {error}")
        self._denials = self._denials + 1 if isinstance(error, AuthorizationError) else 0
        if self._denials >= DENIALS_IN_A_ROW or now - self._since > self._limit:
            raise error
        if now - self._logged_at > QUIET:
            self._logged_at = now
            log.warning("failed, trying again", work=self._work, why=str(error), kind=type(error).__name__)
