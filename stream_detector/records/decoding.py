"""Decodes record values of any format to the matrix that is scored."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import cast

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray

from stream_detector.absence import telling
from stream_detector.config import RecordConfig
from stream_detector.errors import ConfigError
from stream_detector.features import Encoded, FeatureSchema, Rejection, encode
from stream_detector.records.documents import (
    Document,
    OnDemand,
    Parse,
    Rows,
    category,
    guessed_unit,
    identity,
    read,
    time_remarks,
)
from stream_detector.records.event_times import entities_and_times
from stream_detector.records.unusable import parse_alone
from stream_detector.records.vectors import decode_vectors

__all__ = ["Decoded", "Decoder"]

log = structlog.get_logger(__name__)

CHUNK = 256  # values whose objects are alive at once: few enough to stay in the processor's cache
CHUNK_BYTES = 2**20  # of values whose objects are alive at once; objects take up to 25 times as much


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch of record values, decoded to rows.

    `features` is float32 [row, feature]; `kept` holds each row's position in the batch, ascending;
    where a message holds many records, `rows` has each row's number in its message, otherwise it is
    None. `documents` are the rows' objects, at least their identity; `rejected` maps the positions
    that gave no row to reasons. `entities` and `times` (int64 nanoseconds since 1970, or `NO_TIME`) are those of the
    rows, where they were asked for.
    """

    features: NDArray[np.float32]
    kept: list[int]
    documents: Sequence[Document]
    rejected: dict[int, Rejection]
    rows: list[int] | None = None
    entities: Sequence[str | None] = ()
    times: NDArray[np.int64] | None = None

    @property
    def positions(self) -> NDArray[np.int64]:
        """The message of each row, int64 [row]."""
        count = len(self.kept)
        if self.rows is None and count and self.kept[-1] == count - 1:  # a record each, and all of them usable
            return np.arange(count)
        return np.array(self.kept, dtype=np.int64)


def parse_json(values: Sequence[bytes | None], config: RecordConfig) -> Sequence[Document | Rejection]:
    """Parses JSON objects: the whole batch by one call; only when that fails, one by one."""
    return _parse_together(values, config) or [parse_alone(value, config) for value in values]


class Decoder:
    """Reads record values as `record.format` says.

    `parse` makes objects of values where the format has objects: JSON unless told otherwise. Raises
    `ConfigError` when the format needs a package that is not there.
    """

    def __init__(self, config: RecordConfig, parse: Parse = parse_json) -> None:
        self._config = config
        self._parse = parse
        self._told: set[str] = set()
        if config.format == "arrow":
            self._columns = _columns()

    @property
    def many(self) -> bool:
        """Tells whether one message may hold many records."""
        return self._config.format == "arrow"

    def decode(
        self,
        values: Sequence[bytes | None],
        schema: FeatureSchema,
        usual: NDArray[np.bool_] | None = None,
        *,
        told: bool = False,
    ) -> Decoded:
        """Decodes record values to a feature matrix; unusable ones get a reason each.

        `usual` [feature] are the features of which a record must have the share `record.least_present`. Entities and
        event times of the rows are read where they are to be `told`. Raises `TooMuchAtOnce` for several messages that hold more rows than should be decoded together.
        """
        if self._config.format == "arrow":
            matrix, kept, rows, heads, rejected = self._columns.decode_columns(values, schema, self._config, usual)
            entities, times = entities_and_times(heads, self._config) if told else ((), None)
            return Decoded(matrix, kept, heads, rejected, rows, entities, times)
        if self._config.format == "float32":
            matrix, kept, rejected = decode_vectors(values, schema, self._config)
            vectors = Encoded(matrix, list(range(len(kept))), {})
            found = telling(vectors, schema, (), usual, self._config.least_present)
            rejected |= {kept[row]: reason for row, reason in found.rejected.items()}
            kept = [kept[row] for row in found.kept]
            nameless: list[Document] = [{}] * len(kept)
            return Decoded(found.matrix, kept, nameless, rejected)
        return self._decode_documents(values, schema, usual, told=told)

    def read(self, values: Sequence[bytes | None], declared: FeatureSchema | None = None) -> Rows:
        """Reads record values as objects, for fitting; `declared` names the features of bare vectors.

        Raises `ConfigError` when it is None then.
        """
        if self._config.format == "float32":
            return self._read_vectors(values, declared)
        if self._config.format == "arrow":
            rows: Rows = self._columns.read_columns(values, self._config)
            return rows
        return read(self._parse(values, self._config), self._config)

    def count(self, value: bytes | None) -> int:
        """The number of records that a message's value claims to hold; a value that cannot be read counts as one."""
        return int(self._columns.count_rows(value, self._config)) if self.many else 1

    def stretches(self, values: Sequence[bytes | None]) -> Iterator[slice]:
        """Yields stretches of values whose objects may be alive at the same time, in order."""
        step = 1 if self.many else CHUNK
        for first in range(0, len(values), step):
            yield from _light(values, first, min(first + step, len(values)))

    def identity(self, document: Document) -> tuple[str | None, str | None, str | None]:
        """Event id, entity and event time of a document; None where absent or unusable.

        A unit of time that is guessed is logged when it is met first.
        """
        unit = guessed_unit(document, self._config)
        if unit is not None and unit not in self._told:
            self._told.add(unit)
            log.info(*time_remarks([document], self._config))
        return identity(document, self._config)

    def category(self, document: Document, name: str) -> str | None:
        """A feature's text in a document of a decoded row, made safe to show; None where it is none."""
        return category(document, name, self._config)

    def _read_vectors(self, values: Sequence[bytes | None], declared: FeatureSchema | None) -> Rows:
        if declared is None:
            raise ConfigError("record.format: float32 names no features; declare them, in order, under 'features:'")
        matrix, kept, rejected = decode_vectors(values, declared, self._config)
        features = [dict(zip(declared.names, vector, strict=True)) for vector in matrix.tolist()]
        return Rows(kept, [{} for _ in kept], features, rejected)

    def _decode_documents(
        self, values: Sequence[bytes | None], schema: FeatureSchema, usual: NDArray[np.bool_] | None, *, told: bool
    ) -> Decoded:
        blocks: list[NDArray[np.float32]] = []
        entities: list[str | None] = []
        times: list[NDArray[np.int64]] = []
        kept: list[int] = []
        rejected: dict[int, Rejection] = {}
        for stretch in self.stretches(values):
            first = stretch.start
            rows = self.read(values[stretch])
            encoded = encode(schema, rows.features, self._config.max_string)
            encoded = telling(encoded, schema, rows.features, usual, self._config.least_present)
            blocks.append(encoded.matrix)
            kept += [first + rows.kept[row] for row in encoded.kept]
            if told:
                whose, when = entities_and_times([rows.documents[row] for row in encoded.kept], self._config)
                entities += whose
                times.append(when)
            rejected |= {first + position: reason for position, reason in rows.rejected.items()}
            rejected |= {first + rows.kept[row]: reason for row, reason in encoded.rejected.items()}
        matrix = np.concatenate(blocks) if blocks else np.empty((0, len(schema.features)), np.float32)
        documents = OnDemand(len(kept), lambda row: self._document(values[kept[row]]))
        moments = np.concatenate(times) if times else None
        return Decoded(matrix, kept, documents, rejected, None, entities, moments)

    def _document(self, value: bytes | None) -> Document:
        """The object of a value that was decoded before."""
        return cast("Document", self._parse([value], self._config)[0])


def _parse_together(values: Sequence[bytes | None], config: RecordConfig) -> Sequence[Document] | None:
    """Parses all documents at once; None when any value is unusable or needs a closer look.

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


def _light(values: Sequence[bytes | None], first: int, end: int) -> Iterator[slice]:
    """Halves a stretch of values until no part is heavy."""
    if end - first > 1 and sum(map(len, filter(None, values[first:end]))) > CHUNK_BYTES:
        middle = (first + end) // 2
        yield from _light(values, first, middle)
        yield from _light(values, middle, end)
    else:
        yield slice(first, end)


def _columns() -> ModuleType:
    """Loads the module of Arrow messages where the format calls for it: pyarrow takes time to load."""
    return import_module("stream_detector.records.columns")
