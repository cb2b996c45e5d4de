"""Control events survive the topic, and what is none is refused."""

import json

import pytest

from stream_detector.records.control_events import ControlEvent

EVENT = ControlEvent("drift", "e", "telemetry", 1, 7, "adwin", "score", "f" * 64, "2026-01-01T00:00:00Z", ("cpu high",))


def test_an_event_comes_back_as_it_was_written():
    """JSON and back is the same event; keys that a later version adds are passed over."""
    assert ControlEvent.from_json(EVENT.to_json()) == EVENT
    assert ControlEvent.from_json(json.dumps(json.loads(EVENT.to_json()) | {"strength": 3}).encode()) == EVENT
    assert EVENT.record == "telemetry-1-7"


@pytest.mark.parametrize(
    "changes", [{"kind": "nonsense"}, {"offset": "x"}, {"time": "yesterday"}, {"time": None}, {"partition": None}]
)
def test_what_is_no_event_is_refused(changes):
    """One kind of error, whatever is wrong."""
    with pytest.raises(ValueError, match="not a control event"):
        ControlEvent.from_json(json.dumps(json.loads(EVENT.to_json()) | changes).encode())


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"null", b"\xff"])
def test_other_values_are_refused(value):
    """No JSON, no object, no keys."""
    with pytest.raises(ValueError, match="not a control event"):
        ControlEvent.from_json(value)
