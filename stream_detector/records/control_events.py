"""Events on the control topic: what workers notice about the stream as a whole."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import NoneType
from typing import Literal, Self, cast, get_args

from stream_detector.records.parsing import field, json_object, place, texts

__all__ = ["ControlEvent", "Progress", "is_progress"]

EventKind = Literal["drift", "regime-change"]
PROGRESS = "progress"


@dataclass(frozen=True, slots=True)
class ControlEvent:
    """Drift, or many records that differ in the same way at once, noticed at one offset under one model.

    `detector` is `adwin` or `kswin` on the stream `score` or `residual`, `pattern` on `residual`, `missing` or
    `unseen` on `features`, or `dead-letters` on `records`; `model` the version in force there, `time`
    when it was noticed (RFC 3339). `features` is what the records have in common: `cpu high`, `cpu missing`,
    `host new`, or the reason of the dead letters.
    """

    kind: EventKind
    id: str
    topic: str
    partition: int
    offset: int
    detector: str
    stream: str
    model: str
    time: str
    features: tuple[str, ...] = ()

    @property
    def record(self) -> str:
        """The record at which it was noticed, as an alert's id names it."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    @property
    def noticed(self) -> datetime:
        """`time` as a moment; UTC unless it says otherwise."""
        moment = datetime.fromisoformat(self.time)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    @classmethod
    def from_json(cls, value: bytes) -> Self:
        """Reads an event back from the topic; ignores keys of later versions. Raises ValueError when it is none."""
        try:
            body = json_object(value)
            topic, partition, offset = place(body)
            named = {name: field(body, name, str) for name in ("id", "detector", "stream", "model", "time")}
            features = texts(body, "features") if "features" in body else ()
            kind = _event_kind(field(body, "kind", str))
            event = cls(kind, topic=topic, partition=partition, offset=offset, features=features, **named)
            datetime.fromisoformat(event.time)
        except ValueError as error:
            raise ValueError(f"not a control event: {error!r:.300}") from None
        return event

    def to_json(self) -> bytes:
        """The value on the control topic."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the event clock of a partition has come at one record: what is quiet by then is over.

    `clock` and `newest`, the latest event time so far, are in milliseconds since 1970; from them the clock goes on.
    `topic_id` is what the broker calls the topic, where it is known.
    """

    topic: str
    partition: int
    offset: int
    clock: int
    newest: int
    topic_id: str | None = None

    @property
    def key(self) -> bytes:
        """The key on the control topic: the partition."""
        return f"{self.topic}-{self.partition}".encode()

    @classmethod
    def from_json(cls, value: bytes) -> Self:
        """Reads progress back from the topic; ignores keys of later versions. Raises ValueError when it is none."""
        try:
            body = json_object(value)
            topic, partition, offset = place(body)
            if body.get("kind") == PROGRESS:
                moments = {name: field(body, name, int) for name in ("clock", "newest")}
                return cls(topic, partition, offset, topic_id=field(body, "topic_id", str, NoneType), **moments)
        except ValueError as error:
            raise ValueError(f"not progress: {error!r:.300}") from None
        raise ValueError(f"not progress: kind {body.get('kind')!r:.80}")

    def to_json(self) -> bytes:
        """The value on the control topic."""
        return json.dumps({"kind": PROGRESS} | asdict(self)).encode()


def is_progress(value: bytes) -> bool:
    """Tells whether a value of the control topic is progress."""
    try:
        Progress.from_json(value)
    except ValueError:
        return False
    return True


def _event_kind(text: str) -> EventKind:
    if text not in get_args(EventKind):
        raise ValueError(f"kind {text!r:.80}")
    return cast("EventKind", text)
