"""Records that are rows of Arrow record batches: many records in one message.

A row is what a JSON record would be: `record.features_path` names a struct column (or "" the
columns themselves), and `id_path`, `time_path` and `entity_path` name columns. The message is the
unit of what cannot be used: one bad row makes it a dead letter, as its bytes cannot be divided.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, ipc

from stream_detector.absence import telling
from stream_detector.config import RecordConfig
from stream_detector.features import FLOAT32_MAX, Encoded, Feature, FeatureSchema, Kind, Rejection
from stream_detector.records.arrow_rows import rows_of
from stream_detector.records.claims import Claims, claims, longest, viewed
from stream_detector.records.documents import Document, Rows, TooMuchAtOnce
from stream_detector.records.row_identity import IdentityColumns, is_text, row_documents, shortened
from stream_detector.records.unusable import unfit
from stream_detector.values import number

__all__ = ["count_rows", "decode_columns", "read_columns"]

ROOM = 256 * 2**20
"""Bytes that the rows of several messages may take when they are decoded together."""
ROW_BYTES = 64
"""Bytes that a row takes beside its features and its identity, to say where it comes from."""

Floats = NDArray[np.float64]
ColumnBatch = tuple[NDArray[np.float32], list[int], list[int], Sequence[Document], dict[int, Rejection]]


class Unusable(Exception):  # noqa: N818 - not an error but a way out of a message
    """Carries the reason to where the message is given up."""


def decode_columns(
    values: Sequence[bytes | None], schema: FeatureSchema, config: RecordConfig, usual: NDArray[np.bool_] | None
) -> ColumnBatch:
    """Decodes to the matrix float32 [row, feature], for every row its message's position and its number there, documents
    with its identity and categories alone, and the reasons of messages that cannot be used. `usual` as `Decoder.decode`.

    Raises `TooMuchAtOnce` for several messages, while their rows fit into memory.
    """
    blocks: list[NDArray[np.float32]] = []
    identities: list[IdentityColumns] = []
    categories = tuple(feature.name for feature in schema.features if feature.kind is Kind.CATEGORICAL)
    rejected: dict[int, Rejection] = {}
    positions: list[int] = []
    rows: list[int] = []
    taken = 0
    for position, value in enumerate(values):
        try:
            table = _table(value, config)
            blocks.append(_telling(_features(table, config), schema, config, usual))
        except Exception as error:  # noqa: BLE001 - whatever crafted bytes can make a reader raise
            rejected[position] = _why(error)
            continue
        positions += [position] * table.num_rows
        rows += range(table.num_rows)
        identities.append(_identity(table, config, categories))
        taken += blocks[-1].nbytes + _bytes_of(identities[-1][1]) + ROW_BYTES * table.num_rows
        if taken > ROOM and len(values) > 1:
            raise TooMuchAtOnce(position + 1, len(rows))
    matrix = np.concatenate(blocks) if blocks else np.empty((0, len(schema.features)), np.float32)
    return matrix, positions, rows, row_documents(identities), rejected


def count_rows(value: bytes | None, config: RecordConfig) -> int:
    """The number of rows that a message claims; 1 where it claims none, too many, or cannot be read."""
    if unfit(value, config):
        return 1
    try:
        rows = claims(value or b"").rows
    except Exception:  # noqa: BLE001 - whatever crafted bytes can make a reader raise
        return 1
    return rows if 0 < rows <= config.max_rows else 1


def read_columns(values: Sequence[bytes | None], config: RecordConfig) -> Rows:
    """Reads rows as objects, for fitting, where no schema is known yet."""
    rows = Rows([], [], [], {})
    for position, value in enumerate(values):
        try:
            table = _table(value, config)
            features = _features(table, config)
            for name, column in zip(features.schema.names, features.columns, strict=True):
                _require_short(column, name, config)
            found = list(rows_of(features))
            named = list(row_documents([_identity(table, config)]))
        except Exception as error:  # noqa: BLE001 - as above
            rows.rejected[position] = _why(error)
            continue
        rows.kept.extend([position] * table.num_rows)
        rows.documents.extend(named)
        rows.features.extend(found)
    return rows


def _why(error: Exception) -> Rejection:
    if isinstance(error, Unusable):
        reason: Rejection = error.args[0]
        return reason
    return Rejection("undecodable", f"reading it fails with {type(error).__name__}")


def _identity(table: Any, config: RecordConfig, categories: tuple[str, ...] = ()) -> IdentityColumns:
    """The columns that must outlive a message's table: those that name its rows, and those of these features."""
    paths = filter(None, (config.id_path, config.entity_path, config.time_path))
    columns: dict[str, Any] = {path: shortened(_column(table, path), config.max_string) for path in paths}
    if categories:
        inner = _features(table, config)
        told = {name: shortened(_named(inner, name), config.max_string) for name in categories}
        columns = {**columns, config.features_path: told} if config.features_path else {**told, **columns}
    return table.num_rows, columns


def _bytes_of(columns: dict[str, Any]) -> int:
    """The bytes that columns take, those within others included."""
    return sum(
        _bytes_of(each) if isinstance(each, dict) else each.nbytes for each in columns.values() if each is not None
    )


def _table(value: bytes | None, config: RecordConfig) -> Any:
    """Reads a message's rows and checks every offset: with a broken one, reading could leave the buffer."""
    if reason := unfit(value, config):
        raise Unusable(reason)
    try:
        _require_modest(claims(value or b""), config)
        with ipc.open_stream(value) as stream:
            table = stream.read_all()
        table.validate()  # lengths: a slice of a column of fewer than no values ends the process
        _require_few_views(table, config)
        table.validate(full=True)
        _require_names(table.schema)
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise Unusable(Rejection("undecodable", f"not an Arrow IPC stream: {error}")) from None
    if not table.num_rows:
        raise Unusable(Rejection("no-features", "the record batches hold no row"))
    return table.combine_chunks()


def _require_modest(found: Claims, config: RecordConfig) -> None:
    """Refuses what claims too much, before anything is inflated; columns without buffers take no bytes for any rows."""
    if found.rows > config.max_rows:
        raise Unusable(Rejection("too-large", f"{found.rows:,} rows, limit {config.max_rows:,}"))
    most = config.max_inflated_bytes
    if max(found.bytes, found.values) > most:
        what = f"{found.bytes:,} bytes when inflated, up to {found.values:,} values in a column"
        raise Unusable(Rejection("too-large-inflated", f"{what}; limit {most:,} of either"))


def _require_few_views(table: Any, config: RecordConfig) -> None:
    """Refuses many views of long texts, before texts are checked: each view is checked."""
    size = sum(viewed(chunk) for column in table.columns for chunk in column.chunks)
    if size > config.max_inflated_bytes:
        what = f"string views of more than {config.max_inflated_bytes:,} bytes, or within lists"
        raise Unusable(Rejection("too-large-inflated", what))


def _require_short(column: Any, name: str, config: RecordConfig) -> None:
    """Refuses long texts that rows share: as objects, each row would have a copy."""
    if any(longest(chunk) > config.max_string for chunk in column.chunks):
        what = f"feature {name!r} has texts of more than {config.max_string:,} characters, or long lists"
        raise Unusable(Rejection("string-too-long", what))


def _require_names(schema: Any) -> None:
    """Raises UnicodeDecodeError, a ValueError, where the name of a column or of a field within one is no text."""
    list(schema.names)
    for kind in schema.types:
        _require_field_names(kind)


def _require_field_names(kind: Any) -> None:
    for at in range(kind.num_fields):
        str(kind.field(at).name)
        _require_field_names(kind.field(at).type)


def _features(table: Any, config: RecordConfig) -> Any:
    """The table of the features."""
    if not config.features_path:
        return table
    column = _column(table, config.features_path)
    if column is None or not pa.types.is_struct(column.type):
        raise Unusable(Rejection("no-features", f"the batch has no struct column {config.features_path!r}"))
    if column.null_count:
        row = compute.index(column.is_null(), value=True).as_py()
        raise Unusable(Rejection("no-features", f"row {row}: no {config.features_path!r}"))
    return pa.Table.from_struct_array(column)


def _telling(
    table: Any, schema: FeatureSchema, config: RecordConfig, usual: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Makes the matrix of a table, in which no row may lack too much."""
    matrix = _matrix(table, schema, config)
    found = telling(Encoded(matrix, list(range(len(matrix))), {}), schema, (), usual, config.least_present)
    if found.rejected:
        row = min(found.rejected)
        there = [name for at, name in enumerate(table.schema.names) if not table.column(at).slice(row, 1).null_count]
        one = Encoded(matrix[row : row + 1], [0], {})
        reason = telling(one, schema, [dict.fromkeys(there, 1)], usual, config.least_present).rejected[0]
        raise Unusable(Rejection(reason.reason, f"row {row}: {reason.message}"))
    return matrix


def _matrix(table: Any, schema: FeatureSchema, config: RecordConfig) -> NDArray[np.float32]:
    columns = np.empty((len(schema.features), table.num_rows), dtype=np.float32)
    places = {name: place for place, name in enumerate(table.schema.names)}  # of one name the last, as in JSON
    for values, feature in zip(columns, schema.features, strict=True):
        place = places.get(feature.name)
        values[:] = np.nan if place is None else _values(table.column(place), feature, config)
        if feature.required and np.isnan(values).any():
            raise _fault("missing-feature", feature, np.isnan(values), "is required and missing")
    beyond = np.isinf(columns)
    if beyond.any():
        at = int(np.flatnonzero(beyond.any(1))[0])
        raise _fault("non-finite", schema.features[at], beyond[at], "is outside the range of a float32")
    return np.ascontiguousarray(columns.T)


def _values(column: Any, feature: Feature, config: RecordConfig) -> NDArray[np.floating[Any]]:
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    _require_short(column, feature.name, config)
    return _codes(column, feature, config) if feature.kind is Kind.CATEGORICAL else _numbers(column, feature)


def _numbers(column: Any, feature: Feature) -> NDArray[np.floating[Any]]:
    kind = column.type
    if pa.types.is_float32(kind):
        known: NDArray[np.float32] = column.to_numpy()
        return known.astype(np.float64) - feature.origin if feature.origin else known
    if pa.types.is_dictionary(kind):
        return _numbers(column.cast(kind.value_type), feature)
    if pa.types.is_run_end_encoded(kind):
        return _numbers(compute.run_end_decode(column), feature)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values: Floats = column.cast(pa.float64(), safe=False).to_numpy()
    elif pa.types.is_boolean(kind):
        values = column.cast(pa.uint8()).cast(pa.float64()).to_numpy()
    elif is_text(kind):
        values = _read_numbers(column.to_pylist(), feature)
    else:
        raise Unusable(Rejection("wrong-type", f"feature {feature.name!r} is {kind}, expected a number"))
    beyond = np.abs(values) > FLOAT32_MAX
    if beyond.any():
        raise _fault("non-finite", feature, beyond, "is outside the range of a float32")
    return values - feature.origin if feature.origin else values


def _read_numbers(texts: Sequence[str | None], feature: Feature) -> Floats:
    """The numbers that texts read as; a text that is no number makes the message unusable."""
    values = np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        try:
            found = number(text)
        except ValueError:
            rejection = Rejection("wrong-type", f"row {row}: feature {feature.name!r} is text, expected a number")
            raise Unusable(rejection) from None
        values[row] = np.nan if found is None else found
    return values


def _codes(column: Any, feature: Feature, config: RecordConfig) -> Floats:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not is_text(kind):
        raise Unusable(Rejection("wrong-type", f"feature {feature.name!r} is {column.type}, expected a string"))
    text = column.cast(pa.large_string())
    long = np.asarray(compute.fill_null(compute.utf8_length(text), 0)) > config.max_string
    if long.any():
        raise _fault("string-too-long", feature, long, f"has more than {config.max_string:,} characters")
    codes = compute.index_in(text, value_set=pa.array(feature.vocabulary, pa.large_string()))
    found: Floats = compute.fill_null(codes, len(feature.vocabulary)).to_numpy().astype(np.float64)
    found[np.asarray(text.is_null())] = np.nan
    return found


def _fault(reason: str, feature: Feature, rows: NDArray[np.bool_], what: str) -> Unusable:
    return Unusable(Rejection(reason, f"row {np.flatnonzero(rows)[0]}: feature {feature.name!r} {what}"))


def _column(table: Any, path: str) -> Any:
    """The column at a dotted path; a name that itself holds dots is found too."""
    if (whole := _named(table, path)) is not None:
        return whole
    first, *rest = path.split(".")
    column = _named(table, first)
    for name in rest:
        if column is None or not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
            return None
        column = compute.struct_field(column, name)
    return column


def _named(table: Any, name: str) -> Any:
    """The column of that name, the last one if there are several, as in JSON."""
    places = table.schema.get_all_field_indices(name)
    return table.column(places[-1]) if places else None
