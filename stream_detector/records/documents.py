"""Records that are objects: JSON parsed a batch at once, and what every object is asked for.

An object that cannot be used is no exception but a `Rejection`.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import orjson

from stream_detector import foreign
from stream_detector.config import RecordConfig
from stream_detector.features import Rejection

__all__ = [
    "Document",
    "OnDemand",
    "Parse",
    "Rows",
    "TooMuchAtOnce",
    "category",
    "parse_json",
    "read",
    "telemetry_to_json",
    "too_deep",
    "unfit",
    "value_at",
]

Document = dict[str, Any]
Parse = Callable[[Sequence[bytes | None], RecordConfig], Sequence[Document | Rejection]]
"""Record values to objects, each on its own; an unusable one to its reason."""

DEFAULT = RecordConfig()
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WIRE_FORMAT = 5  # bytes before a framed record: 0, and the id of a schema
SIGNATURES = {
    b"\x1f\x8b": "gzip: compress by the producer's compression.type, not by hand",
    b"\x28\xb5\x2f\xfd": "zstd: compress by the producer's compression.type, not by hand",
    b"\x04\x22\x4d\x18": "lz4: compress by the producer's compression.type, not by hand",
    b"\x82SNAPPY": "snappy: compress by the producer's compression.type, not by hand",
    b"BZh": "bzip2: compress by the producer's compression.type, not by hand",
    b"\xfd7zXZ\x00": "xz: compress by the producer's compression.type, not by hand",
    b"PK\x03\x04": "a zip file: compress by the producer's compression.type, not by hand",
    b"\xff\xff\xff\xff": "an Arrow IPC stream: set record.format: arrow",
    b"\xff\xfe": "UTF-16 or UTF-32: write UTF-8",
    b"\xfe\xff": "UTF-16: write UTF-8",
    b"{\0": "UTF-16 or UTF-32: write UTF-8",
    b"\0{": "UTF-16: write UTF-8",
    b"\0\0\0{": "UTF-32: write UTF-8",
    b"\0\0\xfe\xff": "UTF-32: write UTF-8",
}


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
    """Parsed values with their features, the unusable ones with a reason each."""
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
    """All rows at once where every document has an object right at `path`; None when any has not."""
    try:
        features = [document[path] for document in documents]
    except (KeyError, TypeError):  # a path with dots, a document without features, a rejection
        return None
    if set(map(type, features)) - {dict}:
        return None
    return Rows(list(range(len(features))), list(documents), features, {})


def parse_json(values: Sequence[bytes | None], config: RecordConfig) -> Sequence[Document | Rejection]:
    """JSON objects. The whole batch is parsed by one call; only when that fails is it parsed one by one."""
    return _parse_together(values, config) or [_parse_alone(value, config) for value in values]


def unfit(value: bytes | None, config: RecordConfig) -> Rejection | None:
    """The reason why a value is not even parsed, in any format; None when it is parsed."""
    if value is None:
        return Rejection("tombstone", "the record has no value")
    if len(value) > config.max_bytes:
        return Rejection("too-large", f"the record has {len(value):,} bytes, limit {config.max_bytes:,}")
    return None


def category(document: Document, name: str, config: RecordConfig) -> str | None:
    """The text of a document's feature, made safe to show; None where it has none."""
    features = value_at(document, config.features_path) if config.features_path else document
    return foreign.category(features.get(name)) if isinstance(features, dict) else None


def telemetry_to_json(
    event_id: str,
    event_time: object,
    entity: str | None,
    features: Mapping[str, Any],
    record: RecordConfig = DEFAULT,
) -> bytes:
    """A telemetry record's value, laid out as `record.*` says, for producers.

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
    """The object at a path, made on the way where it is not there."""
    for key in path:
        document = document.setdefault(key, {})
    return document


def _parse_together(values: Sequence[bytes | None], config: RecordConfig) -> Sequence[Document] | None:
    """All documents by one parse; None when any value is unusable or needs a closer look.

    A random marker stands between the values, so that no value can pass for two, nor a broken
    one be completed by its neighbour: the markers would not come out where they were put in.
    """
    deep = config.max_depth
    for value in values:
        if value is None or len(value) > config.max_bytes or value.count(b"{") + value.count(b"[") > deep:
            return None
    marker = secrets.token_hex(8)
    try:
        parts = orjson.loads(b"[" + f',"{marker}",'.encode().join(values) + b"]")  # type: ignore[arg-type]
    except orjson.JSONDecodeError:
        return None
    documents, markers = parts[::2], parts[1::2]
    whole = len(parts) == 2 * len(values) - 1 and all(part == marker for part in markers)
    return documents if whole and set(map(type, documents)) == {dict} else None


def _parse_alone(value: bytes | None, config: RecordConfig) -> Document | Rejection:
    if reason := unfit(value, config):
        return reason
    text = (value or b"").removeprefix(BYTE_ORDER_MARK)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        found = _looks_like(text)
        return Rejection("undecodable", f"not JSON; looks like {found}" if found else f"not JSON: {error}")
    if not isinstance(document, dict):
        return Rejection("not-an-object", f"the record is a JSON {type(document).__name__}, expected an object")
    return too_deep(document, config) or document


def _looks_like(value: bytes) -> str | None:
    """Says what a value that is not JSON looks like, and what to do; None where its first bytes tell nothing."""
    for signature, what in SIGNATURES.items():
        if value.startswith(signature):
            return what
    if value[:1] == b"\0" and len(value) > WIRE_FORMAT:
        schema = int.from_bytes(value[1:WIRE_FORMAT])
        return (
            f"Confluent's wire format (schema id {schema}): set record.format: avro, or use a JSON serializer "
            "without schema id"
        )
    return None


def too_deep(document: Document, config: RecordConfig) -> Rejection | None:
    """The reason when objects and arrays nest deeper than `record.max_depth`; None when they do not."""
    if _deeper(document, config.max_depth):
        return Rejection("too-deep", f"objects and arrays nest deeper than {config.max_depth}")
    return None


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(part, levels - 1) for part in inner)


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
