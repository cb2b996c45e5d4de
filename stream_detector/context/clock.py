"""The times that a context goes by: event times that Kafka's own bear out, and the hours of the entity's zone."""

from datetime import UTC, datetime
from hashlib import sha256
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.spec import NO_TIME
from stream_detector.errors import ConfigError

__all__ = ["borne_out", "calendar", "local_hours", "zone"]

Times = NDArray[np.int64]
SECOND = 1_000_000_000  # nanoseconds
HOUR = 3_600  # seconds
QUARTER = 900  # seconds: offsets of zones are multiples of it
KNOWN_FROM, KNOWN_TO = 946_684_800, 2_208_988_800  # 2000 to 2040
LOOK = 6 * HOUR  # seconds from one look at a zone's clocks to the next


def borne_out(events: Times, received: Times, tolerance: int) -> Times:
    """Event times [record] in nanoseconds, none further beyond Kafka's timestamp than `tolerance`.

    A record from the future is so one from now: it does not make all later ones late. `NO_TIME` stays.
    """
    return np.where(events == NO_TIME, NO_TIME, np.minimum(events, received + tolerance))


def local_hours(times: Times, where: ZoneInfo) -> Times:
    """Hours [record] since 1970 on the clocks of a zone, of times in nanoseconds; `NO_TIME` stays."""
    quarters, which = np.unique(times // (QUARTER * SECOND), return_inverse=True)
    offsets = np.array([_offset(int(quarter), where) for quarter in quarters], np.int64)
    hours = (times // SECOND + offsets[which]) // HOUR
    return np.where(times == NO_TIME, NO_TIME, hours)


def zone(name: str) -> ZoneInfo:
    """The time zone of a name such as Europe/Berlin. Raises `ConfigError` where nobody knows it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"context.zone {name!r} is no time zone known here; give one such as Europe/Berlin, or UTC"
        ) from None


def calendar(where: ZoneInfo) -> str:
    """Names what a zone's clocks do from 2000 to 2040: 16 hexadecimal digits.

    Equal on two machines, however each came by its time zone database, as long as both say the same of the zone.
    """
    offsets = [_offset(second // QUARTER, where) for second in range(KNOWN_FROM, KNOWN_TO, LOOK)]
    return sha256(np.array(offsets, "<i8").tobytes()).hexdigest()[:16]


def _offset(quarter: int, where: ZoneInfo) -> int:
    """Seconds that the zone's clocks are ahead of UTC; 0 outside the years that a calendar has."""
    try:
        offset = datetime.fromtimestamp(quarter * QUARTER, UTC).astimezone(where).utcoffset()
    except (ValueError, OverflowError, OSError):
        return 0
    return int(offset.total_seconds()) if offset is not None else 0
