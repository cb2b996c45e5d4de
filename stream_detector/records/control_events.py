"""Events on the control topic: what workers notice about the stream as a whole."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, Self, cast, get_args

from stream_detector.records.parsing import field, json_object, place, texts

__all__ = ["ControlEvent"]

EventKind = Literal["drift", "regime-change"]


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


def _event_kind(text: str) -> EventKind:
    if text not in get_args(EventKind):
        raise ValueError(f"kind {text!r:.80}")
    return cast("EventKind", text)
