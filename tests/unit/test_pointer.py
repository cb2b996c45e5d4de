"""What a model pointer says of itself."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stream_detector.kafka.pointer import Pointer


def test_a_pointer_keeps_near_what_a_person_approved_and_until_then_near_the_first():
    """So a first model that nobody looked at is no approval, and later ones still may not stray far from it."""
    automatic = Pointer("a" * 64, "b" * 64, "somebody", "now", "why", first="c" * 64)
    approved = replace(automatic, approved="d" * 64)

    assert (automatic.anchor, approved.anchor) == ("c" * 64, "d" * 64)
    assert "c" * 64 in automatic.versions
    assert "c" * 64 not in approved.versions


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
