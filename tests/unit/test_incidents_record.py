"""What is on the topic of incidents: JSON that fits the published schema, and comes back as it was."""

import json
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from incident_alerts import SETTINGS, alert, clock, folded, progress, silence, verdict
from jsonschema import Draft202012Validator

from stream_detector.incidents.groups import Groups
from stream_detector.kafka.control import _event
from stream_detector.records import alert_from_json
from stream_detector.records.alerts import Contribution
from stream_detector.records.control_events import Progress, is_progress
from stream_detector.records.feedback import Mute
from stream_detector.records.incident import SEVERITY_WORDS, incident_from_json, incident_schema

SCHEMA = Path(__file__).parents[2] / "configs/schemas/incident.schema.json"
FIT = Draft202012Validator(json.loads(SCHEMA.read_text()), format_checker=Draft202012Validator.FORMAT_CHECKER)

values = st.none() | st.floats() | st.text(max_size=5)
contributions = st.builds(Contribution, st.text(max_size=5), values, values, st.floats(0, 1), st.text(max_size=5))


def test_the_published_schema_is_that_of_the_values():
    """configs/schemas/incident.schema.json has the states and severity words that are written."""
    assert json.loads(SCHEMA.read_text()) == incident_schema()
    FIT.check_schema(incident_schema())


@given(
    st.lists(
        st.builds(
            alert,
            st.integers(0, 50),
            st.integers(0, 500),
            entity=st.none() | st.text(max_size=5),
            excess=st.floats(0, 40),
            contributions=st.lists(contributions, max_size=5).map(tuple),
            severity=st.sampled_from((*SEVERITY_WORDS, "another word")),
            event_time=st.none() | st.text(max_size=5) | st.datetimes().map(str),
            clock=st.none() | st.integers(0, 2**62),
        ),
        max_size=8,
    )
)
def test_every_incident_fits_the_schema_and_comes_back(alerts):
    """Whatever alerts hold, what is written fits, and is read as it was but for numbers that JSON lacks."""
    for incident in folded(*alerts).values():
        written = incident.to_json()
        FIT.validate(orjson.loads(written))  # which takes no NaN
        assert incident_from_json(written).to_json() == written


def test_every_state_and_a_group_fit_the_schema():
    """Pending, open, resolved, silent, with a verdict, and several at once."""
    events = [alert(n, n, f"e{n % 4}") for n in range(8)]
    several = folded(*events, alert(9, 0, "x"), silence(10, 0), verdict("telemetry-0-1", "anomaly"), progress(11, 16.5))
    groups = Groups(SETTINGS)
    for incident in several.values():
        groups.take(incident)
    (group,) = groups.changes().values()

    assert {each.state for each in several.values()} == {"open", "resolved"}
    assert group.kind == "group"
    for each in (*several.values(), *folded(alert(1, 0)).values(), group):
        FIT.validate(json.loads(each.to_json()))
        assert incident_from_json(each.to_json()) == each


@pytest.mark.parametrize(
    "changes", [{"state": "new"}, {"severity": "bad"}, {"revision": "3"}, {"id": "x"}, {"kind": 1}]
)
def test_what_is_no_incident_is_refused(changes):
    """One kind of error, whatever is wrong; the schema refuses it, too."""
    (incident,) = folded(alert(1, 0)).values()
    changed = json.loads(incident.to_json()) | changes

    assert not FIT.is_valid(changed)
    with pytest.raises(ValueError, match="not an incident"):
        incident_from_json(json.dumps(changed).encode())


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"null", b"\xff", b"[" * 5_000])
def test_other_values_are_refused(value):
    """No JSON, no object, no keys."""
    for read in (incident_from_json, Progress.from_json, Mute.from_json):
        with pytest.raises(ValueError, match=r"^not (an incident|progress|a mute)"):
            read(value)


def test_keys_of_later_versions_are_passed_over():
    """What a later version adds does not keep this one from reading."""
    (incident,) = folded(alert(1, 0)).values()
    assert incident_from_json(json.dumps(json.loads(incident.to_json()) | {"new": 1}).encode()) == incident


def test_an_alert_keeps_its_kind_and_clock():
    """Both come back from the topic; an alert that has neither is written as before."""
    plain = alert(1, 0, clock=None, key=b"k")

    for each in (alert(1, 0, key=b"k"), plain, silence(2, 0, key=b"k"), silence(2, 0, kind="resumed", key=b"k")):
        assert alert_from_json(each.to_json(), b"k") == each
    assert not {"kind", "clock"} & json.loads(plain.to_json()).keys()
    with pytest.raises(ValueError, match="not an alert: kind 'x'"):
        alert_from_json(json.dumps(json.loads(plain.to_json()) | {"kind": "x"}).encode())


def test_progress_comes_back_and_is_no_control_event():
    """The control topic carries both; who follows events passes over progress without a word."""
    told = progress(7, 3, topic_id="x")

    assert Progress.from_json(told.to_json()) == told
    assert (told.key, told.clock) == (b"telemetry-0", clock(3))
    assert is_progress(told.to_json())
    assert not is_progress(told.to_json().replace(b'"progress"', b'"drift"'))


def test_what_follows_control_events_logs_no_progress(capsys):
    """A message that is neither is logged."""

    class Stored:
        def __init__(self, content):
            self.value = lambda: content
            self.topic = lambda: "control"
            self.offset = lambda: 5

    assert _event(Stored(progress(7, 3).to_json())) is None
    assert capsys.readouterr().out == ""
    assert _event(Stored(b"{}")) is None
    assert "control event passed over" in capsys.readouterr().out


def test_a_mute_comes_back():
    """All that somebody said; moments without a zone are UTC."""
    said = b'{"id": "m", "who": "me", "when": "2026-01-01T00:00:00", "until": "2026-01-02T00:00:00Z", "why": "tests", "entities": ["db-*"], "features": []}'
    mute = Mute.from_json(said)

    assert Mute.from_json(mute.to_json()) == mute
    assert (mute.until - mute.when).days == 1
    assert (mute.key, mute.entities, mute.incident) == (b"m", ("db-*",), None)
    assert Mute.from_json(replace(mute, incident="i").to_json()).incident == "i"
