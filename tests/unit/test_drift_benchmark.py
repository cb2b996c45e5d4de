"""The reckoning of the drift benchmark: it finds what is wrong, and counts what it says it counts."""

import pytest

from benchmarks.drift.cause import is_after, named
from benchmarks.drift.dispositions import Dispositions, turn
from benchmarks.drift.figures import Phase, Seen, phases
from benchmarks.drift.promises import broken_promises
from producers.faults import Fault, FaultKind, record_id
from stream_detector.records.control_events import ControlEvent

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


def kept(**changes):
    """The arguments of a run that kept all promises, some changed."""
    some = frozenset({fault(1, 2), fault(5, 6)})
    phase = {name: Phase(1_000, 30, some, some) for name in ("before", "between", "after")}
    found = phase | {"drift": Phase(1_000, 300, some, some)} | changes.pop("found", {})
    return {"found": found, "target": 0.03, "swapped": {"one", "two"}, "done": Dispositions(), "caused": True} | changes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"found": {"drift": Phase(1_000, 80, frozenset(), frozenset())}}, "raised the alert rate to 8.00% only"),
        (
            {"found": {"after": Phase(1_000, 40, frozenset({fault(1, 2)}), frozenset({fault(1, 2)}))}},
            "4.00%, is not within",
        ),
        (
            {"found": {"after": Phase(1_000, 20, frozenset({fault(1, 2)}), frozenset({fault(1, 2)}))}},
            "2.00%, is not within",
        ),
        ({"found": {"after": Phase(1_000, 30, frozenset({fault(1, 2)}), frozenset())}}, "0.0% of the faults"),
        ({"found": {"before": Phase(1_000, 30, frozenset(), frozenset())}}, "no fault to detect"),
        ({"swapped": {"one"}}, "no swap in worker two"),
        ({"caused": False}, "not started by a drift event"),
        ({"done": Dispositions(lost=1)}, "lost is 1, must be 0"),
        ({"done": Dispositions(duplicated=2)}, "duplicated is 2, must be 0"),
        ({"done": Dispositions(mismatched=3)}, "replay_mismatch is 3, must be 0"),
    ],
)
def test_a_promise_that_is_not_kept_is_named(changes, says):
    """Each figure that must hold has a line of its own when it does not; a run without fault has none."""
    assert not list(broken_promises(**kept()))
    (line,) = broken_promises(**kept(**changes))
    assert says in line


def test_only_an_event_after_the_release_counts_as_the_cause():
    """The report's reason must name an event of the control topic under the replaced model, on a record of the new kind."""
    event = ControlEvent("drift", "e", *PARTITION, 150, "adwin", "score", "old", "2026-01-01T00:00:00+00:00")
    report = {"champion": "old", "why": "drift at t-0-150: adwin on score"}
    seen = [Seen(PARTITION, step, record_id("web", step), False) for step in range(300)]

    assert named(report, [event]) == event
    assert named(report | {"why": "retrain.every: 1:00:00"}, [event]) is None
    assert named(report | {"why": "drift at t-0-15: adwin on score"}, [event]) is None
    assert named(report | {"champion": "other"}, [event]) is None
    assert is_after(event, seen, RELEASE)
    assert not is_after(event, seen, 151)
