"""Who a record is: its id, entity and event time, whatever types their writers gave them."""

import codecs
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from uuid import UUID

from stream_detector.config import RecordConfig
from stream_detector.records.documents import Document, value_at
from stream_detector.records.times import Unit, event_time, guessed

__all__ = ["UTF8_BYTES", "guessed_unit", "identity", "time_remarks"]

UTF8_BYTES = 4  # of a character, at most
UUID_BYTES = 16
UNITS: dict[Unit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def identity(document: Document, config: RecordConfig) -> tuple[str | None, str | None, str | None]:
    """Event id, entity and event time (RFC 3339, UTC) of a document; None where absent or unusable.

    Text beyond `record.max_string` characters is cut. Bytes are the text that they hold, a UUID, or hexadecimal.
    """
    return (
        _text(value_at(document, config.id_path), config.max_string),
        _text(value_at(document, config.entity_path), config.max_string),
        event_time(value_at(document, config.time_path), config.time_unit),
    )


def guessed_unit(document: Document, config: RecordConfig) -> Unit | None:
    """The unit that is guessed of a document's time; None where it is set, or the time is no number."""
    return guessed(value_at(document, config.time_path)) if config.time_path and config.time_unit == "auto" else None


def time_remarks(documents: Iterable[Document], config: RecordConfig) -> list[str]:
    """What a person should see of the units that are guessed, a line each."""
    examples: dict[Unit, object] = {}
    for document in documents:
        if unit := guessed_unit(document, config):
            examples.setdefault(unit, value_at(document, config.time_path))
    return [
        f"times at {config.time_path!r} such as {example} are taken as {UNITS[unit]}, {event_time(example)}; "
        "record.time_unit sets it"
        for unit, example in examples.items()
    ]


def _text(value: object, limit: int) -> str | None:
    if isinstance(value, bytes):
        return _of_bytes(value, limit)
    if isinstance(value, date):  # a datetime, too
        return event_time(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | UUID):
        return None
    return str(value)[:limit]


def _of_bytes(value: bytes, limit: int) -> str:
    most = UTF8_BYTES * limit
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(value[:most], final=len(value) <= most)
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable():
        return text[:limit]
    return (str(UUID(bytes=value)) if len(value) == UUID_BYTES else value.hex())[:limit]
