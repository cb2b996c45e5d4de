"""Records that are objects: their features, id, entity and event time, whatever types their writers gave them.

An object that cannot be used is no exception but a `Rejection`. Times are epoch numbers of any unit, RFC 3339,
or a library's own types.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, overload
from uuid import UUID

import orjson

from stream_detector import foreign
from stream_detector.config import RecordConfig
from stream_detector.features import Rejection

__all__ = [
    "UTF8_BYTES",
    "Document",
    "OnDemand",
    "Parse",
    "Rows",
    "TooMuchAtOnce",
    "Unit",
    "category",
    "entity_names",
    "event_time",
    "guessed",
    "guessed_unit",
    "identity",
    "moment",
    "read",
    "telemetry_to_json",
    "time_remarks",
    "value_at",
    "values_at",
]

Document = dict[str, Any]
Parse = Callable[[Sequence[bytes | None], RecordConfig], Sequence[Document | Rejection]]
"""Parses record values to objects, each on its own; an unusable one to its reason."""

DEFAULT = RecordConfig()
UTF8_BYTES = 4  # of a character, at most
UUID_BYTES = 16

Unit = Literal["s", "ms", "us", "ns"]

UNITS: dict[Unit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
BY_DIGITS: dict[int, Unit] = {10: "s", 13: "ms", 16: "us", 19: "ns"}
"""The unit of a number by its count of digits, from 2001 to 2286. Other lengths are left alone: 12 and 14 digits
are dates without separators, 18 the ticks of .NET."""
MOST = 10**22  # nanoseconds of a year beyond 9999
LONGEST = 64  # characters, of a time in text
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
DATE_ONLY = 8  # digits, as in 20260131
RFC_3339 = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d|\d{8}|\d{4}-?W\d\d-?\d)"
    r"(?:[T ](?P<time>\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?) ?(?P<zone>Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?)?",
    re.ASCII,
)
"""In capitals; also what ISO 8601 allows beyond it: dates alone, digits without separators, weeks, no zone."""
LEAP_SECOND = re.compile(r"(\d\d:?\d\d:?)60")


@dataclass(frozen=True, slots=True)
class OnDemand(Sequence[Document]):
    """A sequence of objects, each made by its number when it is asked for: few rows become alerts."""

    size: int
    make: Callable[[int], Document]

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, at: int) -> Document: ...
    @overload
    def __getitem__(self, at: slice) -> list[Document]: ...
    def __getitem__(self, at: int | slice) -> Document | list[Document]:
        where = range(self.size)[at]
        return list(map(self.make, where)) if isinstance(where, range) else self.make(where)


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch of records as objects, before any schema.

    `kept` holds the positions of the records' messages in the batch, ascending; `documents` and
    `features` (the object at `record.features_path`) go with them; `rejected` maps the other positions.
    """

    kept: list[int]
    documents: list[Document]
    features: list[Document]
    rejected: dict[int, Rejection]


class TooMuchAtOnce(Exception):  # noqa: N818 - not an error but a way out of a batch
    """Is raised where several messages hold too many rows to decode them together; carries both numbers."""

    def __init__(self, messages: int, rows: int) -> None:
        super().__init__(f"{messages:,} messages hold {rows:,} rows")
        self.messages, self.rows = messages, rows


def read(documents: Sequence[Document | Rejection], config: RecordConfig) -> Rows:
    """Reads the features of parsed values; unusable ones get a reason each."""
    path = config.features_path
    if path and (rows := _read_plain(documents, path)):
        return rows
    rows = Rows([], [], [], {})
    for position, document in enumerate(documents):
        if isinstance(document, Rejection):
            rows.rejected[position] = document
            continue
        features = _features_of(document, path)
        if isinstance(features, Rejection):
            rows.rejected[position] = features
            continue
        rows.kept.append(position)
        rows.documents.append(document)
        rows.features.append(features)
    return rows


def _read_plain(documents: Sequence[Any], path: str) -> Rows | None:
    """Reads all rows at once where every document has an object at `path` itself; None where one has not."""
    try:
        features = [document[path] for document in documents]
    except (KeyError, TypeError):  # a path with dots, a document without features, a rejection
        return None
    if set(map(type, features)) - {dict}:
        return None
    return Rows(list(range(len(features))), list(documents), features, {})


def _features_of(document: Document, path: str) -> Document | Rejection:
    features = value_at(document, path) if path else document
    if features is None:
        return Rejection("no-features", f"the record has no {path!r}")
    if not isinstance(features, dict):
        return Rejection("no-features", f"{path!r} is {type(features).__name__}, expected an object")
    return features


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; a key that itself holds dots is found too."""
    if not path or path in document:
        return document.get(path)
    value: Any = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def values_at(documents: Sequence[Mapping[str, Any]], path: str) -> list[Any]:
    """The values at a path, as `value_at` finds each; at once where all documents have the key itself."""
    try:
        return [document[path] for document in documents]
    except KeyError:
        return [value_at(document, path) for document in documents]


def category(document: Document, name: str, config: RecordConfig) -> str | None:
    """The text of a document's feature, made safe to show; None where it has none."""
    features = value_at(document, config.features_path) if config.features_path else document
    return foreign.category(features.get(name)) if isinstance(features, dict) else None


def identity(document: Document, config: RecordConfig) -> tuple[str | None, str | None, str | None]:
    """Event id, entity and event time (RFC 3339, UTC) of a document; None where absent or unusable.

    Text beyond `record.max_string` characters is cut. Bytes are the text that they hold, a UUID, or hexadecimal.
    """
    return (
        _text(value_at(document, config.id_path), config.max_string),
        _text(value_at(document, config.entity_path), config.max_string),
        event_time(value_at(document, config.time_path), config.time_unit),
    )


def entity_names(documents: Sequence[Document], config: RecordConfig) -> list[str | None]:
    """The entities of documents, as `identity` gives them."""
    path, limit = config.entity_path, config.max_string
    found = values_at(documents, path)
    if set(map(type, found)) == {str} and max(map(len, found)) <= limit:
        return found
    return [_text(value, limit) for value in found]


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


def guessed_unit(document: Document, config: RecordConfig) -> Unit | None:
    """The unit that is guessed of a document's time; None where it is set, or the time is no number."""
    return guessed(value_at(document, config.time_path)) if config.time_path and config.time_unit == "auto" else None


def time_remarks(documents: Iterable[Document], config: RecordConfig) -> list[str]:
    """Lines that tell a person which units are guessed, one for each."""
    examples: dict[Unit, object] = {}
    for document in documents:
        if unit := guessed_unit(document, config):
            examples.setdefault(unit, value_at(document, config.time_path))
    return [
        f"times at {config.time_path!r} such as {example} are taken as {UNITS[unit]}, {event_time(example)}; "
        "record.time_unit sets it"
        for unit, example in examples.items()
    ]


def telemetry_to_json(
    event_id: str,
    event_time: object,
    entity: str | None,
    features: Mapping[str, Any],
    record: RecordConfig = DEFAULT,
) -> bytes:
    """Writes a telemetry record's value as `record.*` lays it out, for producers.

    Time is RFC 3339, a `datetime` or a number since 1970; what is None is left out, a missing feature too.
    Raises `TypeError` for a value that JSON cannot hold.
    """
    document: Document = {}
    for path, value in ((record.id_path, event_id), (record.time_path, event_time), (record.entity_path, entity)):
        if path and value is not None:
            *outer, last = path.split(".")
            _within(document, outer)[last] = value
    inner = _within(document, record.features_path.split(".") if record.features_path else ())
    inner |= {name: value for name, value in features.items() if value is not None and name not in inner}
    return orjson.dumps(document)


def _within(document: Document, path: Iterable[str]) -> Document:
    """The object at a path; missing objects on the way are made."""
    for key in path:
        document = document.setdefault(key, {})
    return document


def event_time(value: object, unit: Unit | Literal["auto"] = "auto") -> str | None:
    """Converts a time to RFC 3339 text in UTC, cut to milliseconds; None where the value is no time.

    Numbers, and digits in text, count from 1970 in `unit`, up to the year 9999. `auto` tells the unit by the
    number alone (`guessed`). Text is RFC 3339; what names no zone is taken as UTC.
    """
    try:
        found = moment(value, unit)
        if found is None:
            return None
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, ArithmeticError):
        return None


def guessed(value: object) -> Unit | None:
    """The unit that `auto` takes a number, or digits in text, to be in; None where it is no time."""
    number = _number(value)
    if number is None or not _is_epoch(number) or _is_date(value):
        return None
    return BY_DIGITS.get(len(str(int(number))))


def moment(value: object, unit: Unit | Literal["auto"]) -> datetime | None:
    """The time that a value names, as `event_time` reads it; None where it is no time.

    Raises ValueError or ArithmeticError for a time that cannot be.
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    number = _number(value)
    if number is not None and not (unit == "auto" and _is_date(value)):
        known = guessed(value) if unit == "auto" else unit
        return _counted(number, known) if known and _is_epoch(number) else None
    return _read(value) if isinstance(value, str) and len(value) <= LONGEST else None


def _number(value: object) -> int | float | Decimal | None:
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return None if isinstance(value, Decimal) and value.is_nan() else value  # of no Decimal NaN can order be asked
    if isinstance(value, str) and len(value) <= LONGEST and NUMBER.fullmatch(value.strip()):
        return Decimal(value.strip())
    return None


def _is_date(value: object) -> bool:
    return isinstance(value, str) and len(value.strip()) == DATE_ONLY


def _is_epoch(number: float | Decimal) -> bool:
    return 0 <= number < MOST


def _counted(number: float | Decimal, unit: Unit) -> datetime:
    """Counts from 1970. Exact numbers are cut to microseconds; a double is rounded, as it is not exact."""
    if isinstance(number, float):
        return EPOCH + timedelta(microseconds=round(number * 10**6 / PER_SECOND[unit]))
    return EPOCH + timedelta(microseconds=int(number * 10**6 // PER_SECOND[unit]))


def _read(text: str) -> datetime | None:
    found = RFC_3339.fullmatch(text.strip().upper())
    if not found:
        return None
    if not found["time"]:
        return datetime.fromisoformat(found["date"])
    second = LEAP_SECOND.match(found["time"])
    clock = LEAP_SECOND.sub(r"\g<1>59", found["time"], count=1) if second else found["time"]
    moment = datetime.fromisoformat(f"{found['date']}T{clock}{found['zone'] or 'Z'}").astimezone(UTC)
    return _after_leap(moment) if second else moment


def _after_leap(moment: datetime) -> datetime | None:
    """The first second of the next month, which follows a leap second; None where no leap second can be."""
    after = moment + timedelta(seconds=1)
    return after if (after.day, after.hour, after.minute, after.second) == (1, 0, 0, 0) else None
