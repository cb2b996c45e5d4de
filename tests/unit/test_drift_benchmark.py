"""The reckoning of the drift benchmark: it finds what is wrong, and counts what it says it counts."""

import pytest

from benchmarks.drift.dispositions import turn
from benchmarks.drift.figures import Seen, phases
from producers.faults import Fault, FaultKind, record_id

PARTITION = ("t", 0)
RELEASE, SWAPS = 100, (200, 220)  # steps; with one entity, offsets too


@pytest.mark.parametrize(
    ("before", "after", "offset"),
    [
        ({5}, {30}, 6),  # nothing speaks against the first possible one
        ({5}, {12, 30}, 13),  # what the new model flags at 12 has no alert: it was not in force yet
        ({5, 20}, {12, 30}, 13),  # and the old one was not any more at 20
    ],
)
def test_a_model_took_over_where_no_alert_is_missing(before, after, offset):
    """Between the last alert of one model, at 5, and the first of the next, at 30."""
    assert turn(before, after, last=5, first=30) == offset


def test_a_missing_alert_cannot_be_explained_away():
    """Whatever the offset, one of these two alerts is missing."""
    before, after = {5, 10}, {20, 30}
    offset = turn(before, after, last=5, first=30)
    assert (offset > 10) + (offset <= 20) == 1


def fault(start, end, entity="web"):
    return Fault(FaultKind.SPIKE, entity, ("latency_ms",), start, end, 3.0, "")


def test_phases_count_records_alerts_and_whole_faults():
    """A fault across a phase's end belongs to none; a fault is detected once, by any of its records."""
    faults = [fault(10, 14), fault(50, 52), fault(98, 101), fault(150, 151), fault(250, 254)]
    labels = {record_id("web", step): each for each in faults for step in range(each.start, each.end + 1)}
    flagged = {10, 12, 20, 99, 150, 160, 254, 255}
    seen = [Seen(PARTITION, step, record_id("web", step), step in flagged) for step in range(300)]
    found = phases(seen, labels, RELEASE, {PARTITION: SWAPS})

    assert {name: phase.records for name, phase in found.items()} == {
        "before": 100,
        "drift": 100,
        "between": 20,
        "after": 80,
    }
    assert {name: phase.alerts for name, phase in found.items()} == {"before": 4, "drift": 2, "between": 0, "after": 2}
    assert {name: (len(phase.detected), len(phase.faults)) for name, phase in found.items()} == {
        "before": (1, 2),
        "drift": (1, 1),
        "between": (0, 0),
        "after": (1, 1),
    }
