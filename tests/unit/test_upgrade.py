"""The upgrade contract: what earlier heads wrote is read by this one."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stream_detector.golden import NINES, SHARE
from stream_detector.model import DetectorModel
from stream_detector.records import CONNECT, alert_from_json
from stream_detector.records.control_events import ControlEvent
from stream_detector.registry.model_pointer import read_pointer

HEADS = sorted(path for path in (Path(__file__).parents[1] / "fixtures").iterdir() if path.is_dir())
pytestmark = pytest.mark.parametrize("head", HEADS, ids=lambda head: head.name)


@dataclass
class Kept:
    """A message as it lay on its topic."""

    entry: dict

    def topic(self):
        return self.entry["topic"]

    def offset(self):
        return self.entry["offset"]

    def key(self):
        return plain(self.entry["key"])

    def value(self):
        return plain(self.entry["value"])

    def headers(self):
        return [(name, plain(value)) for name, value in self.entry["headers"]]


def plain(text):
    return None if text is None else base64.b64decode(text)


def kept(head, name):
    messages = [Kept(json.loads(line)) for line in (head / name).read_text().splitlines()]
    assert messages, f"{head.name}/{name} holds nothing"
    return messages


def test_a_model_of_an_earlier_head_serves_with_the_same_scores_and_version(head):
    """An artifact keeps its version, passes its golden batch, and scores records as where it was made."""
    model = DetectorModel.from_bytes((head / "model.artifact").read_bytes(), "cpu")
    told = json.loads((head / "scores.json").read_text())
    scores = model.score(told["records"])
    model.verify()
    assert model.version == told["version"]
    for opinion in ("inversion", "discriminator", "anomaly"):
        expected = np.array(told[opinion])
        assert np.allclose(getattr(scores, opinion), expected, rtol=SHARE, atol=NINES), opinion


def test_alerts_of_an_earlier_head_are_read_back_whole(head):
    """Every alert is read with its identity, scores and contributions, and is written the same again."""
    for message in kept(head, "alerts.jsonl"):
        alert = alert_from_json(message.value(), message.key())
        assert dict(message.headers())["ce_id"] == alert.id.encode()
        assert alert.score > alert.threshold
        assert sum(part.contribution for part in alert.contributions) == pytest.approx(1, abs=1e-4)
        before, now = json.loads(message.value()), json.loads(alert.to_json())
        assert {name: now[name] for name in before} == before


def test_dead_letters_of_an_earlier_head_name_their_record_and_reason(head):
    """The Connect headers, by which dead letters are sent again, are where readers look for them."""
    for message in kept(head, "dead_letters.jsonl"):
        named = {name: value for name, value in message.headers() if name.startswith(CONNECT)}
        assert named[f"{CONNECT}topic"]
        assert int(named[f"{CONNECT}offset"]) >= 0
        assert named[f"{CONNECT}exception.class.name"]


def test_pointers_of_an_earlier_head_still_name_their_model(head):
    """The pointer of an earlier head is no damaged one."""
    told = json.loads((head / "scores.json").read_text())
    assert [read_pointer(message).version for message in kept(head, "pointer.jsonl")] == [told["version"]]


def test_control_events_of_an_earlier_head_are_read(head):
    """A report of drift or of a change of regime keeps its kind, record and features."""
    events = [ControlEvent.from_json(message.value()) for message in kept(head, "control.jsonl")]
    assert {event.kind for event in events} == {"drift", "regime-change"}
    assert all(event.record and event.noticed for event in events)
