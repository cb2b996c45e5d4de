"""What a model pointer says of itself."""

from datetime import UTC, datetime

import pytest

from stream_detector.kafka.pointer import Pointer


@pytest.mark.parametrize(
    ("when", "moment"),
    [
        ("2026-01-02T03:04:05+00:00", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("now", None),
        ("", None),
    ],
)
def test_a_pointer_that_names_no_time_stops_nobody(when, moment):
    """Other programs write pointers, too: without a zone the time is UTC, and no time is none."""
    assert Pointer("a" * 64, None, "somebody", when, "why").moment == moment
