"""What had a model trained: the report of its run, and the event on the control topic that it names."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.drift.figures import Seen
from benchmarks.drift.traffic import step_of
from stream_detector.config import Config
from stream_detector.kafka.follow import follow
from stream_detector.records import raw
from stream_detector.records.control_events import ControlEvent

__all__ = ["cause", "is_after", "named"]


def _successor(config: Config, champion: str) -> Mapping[str, Any] | None:
    """The report of the retraining that replaced `champion`; None when there is none."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in config.retrain.runs.glob("*/report.json")]
    found = (each for each in reports if each["champion"] == champion and each["result"] == "published")
    return next(found, None)


def named(report: Mapping[str, Any], events: Iterable[ControlEvent]) -> ControlEvent | None:
    """The event under the replaced model that the report gives as its reason; None when it gives another."""
    for event in events:
        if event.model == report["champion"] and str(report["why"]).startswith(f"{event.kind} at {event.record}: "):
            return event
    return None


def cause(config: Config, champion: str) -> ControlEvent | None:
    """The event that had the model after `champion` trained; None when it was no event."""
    report = _successor(config, champion)
    topic = follow(config.kafka, config.topics.control, from_beginning=True, endless=False)
    events = [ControlEvent.from_json(raw(message.value()) or b"") for message in topic]
    return named(report, events) if report else None


def is_after(event: ControlEvent, seen: Iterable[Seen], release_step: int) -> bool:
    """Whether the record that the event names is one of the stream after the release."""
    place = ((event.topic, event.partition), event.offset)
    return any((each.partition, each.offset) == place and step_of(each.id) >= release_step for each in seen)
