"""How long trouble may last: back off, say so now and then, give up in the end."""

import time

import structlog

from stream_detector.errors import AuthorizationError, KafkaError

__all__ = ["Patience"]

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds
QUIET = 5.0  # seconds between two log lines about the same trouble
CALM = 60.0  # seconds without a failure after which the next one is new trouble
DENIALS_IN_A_ROW = 3

log = structlog.get_logger(__name__)


class Patience:
    """Failures of one kind of work since it last succeeded; `limit` is how long they may go on, seconds."""

    def __init__(self, work: str, limit: float) -> None:
        self._work = work
        self._limit = limit
        self._since: float | None = None
        self._last = 0.0
        self._logged_at = -QUIET
        self._pause = FIRST_PAUSE
        self._denials = 0

    @property
    def troubled(self) -> bool:
        """Whether the last attempt failed."""
        return self._since is not None

    @property
    def waiting(self) -> bool:
        """Whether it is too early for another attempt."""
        return self.troubled and time.monotonic() < self._last + self._pause

    def succeeded(self) -> None:
        """The work went well."""
        if self._since is not None and self._logged_at >= self._since:
            log.info("recovered", work=self._work, after_seconds=round(time.monotonic() - self._since, 1))
        self._since = None

    def failed(self, error: KafkaError) -> None:
        """The work failed. Raises the error when patience is at its end.

        A missing permission does not come by waiting: the third `AuthorizationError` in a row is raised,
        even when something else that is permitted succeeds in between.
        """
        now = time.monotonic()
        if now - self._last > CALM:
            self._since, self._denials = None, 0
        if self._since is None:
            self._since, self._pause = now, FIRST_PAUSE
        self._last, self._pause = now, min(2 * self._pause, LONGEST_PAUSE)
        self._denials = self._denials + 1 if isinstance(error, AuthorizationError) else 0
        if self._denials >= DENIALS_IN_A_ROW or now - self._since > self._limit:
            raise error
        if now - self._logged_at > QUIET:
            self._logged_at = now
            log.warning("failed, trying again", work=self._work, why=str(error), kind=type(error).__name__)
