"""The identity of rows of Arrow messages: columns that outlive a message's table, read when a row is asked for."""

from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any
from uuid import UUID

import pyarrow as pa
from pyarrow import compute

from stream_detector.records.documents import UTF8_BYTES, Document, OnDemand

__all__ = ["IdentityColumns", "is_binary", "is_text", "row_documents", "shortened"]

IdentityColumns = tuple[int, dict[str, Any]]
"""A count of rows, and their columns by path."""

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
SECONDS_OF_A_DAY = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_text(kind: Any) -> bool:
    """Tells whether a type is text, in any layout."""
    return any(is_one(kind) for is_one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def is_binary(kind: Any) -> bool:
    """Tells whether a type is bytes, in any layout."""
    kinds = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary
    return any(is_one(kind) for is_one in kinds)


def shortened(column: Any, characters: int) -> Any:
    """A column of an identity; its texts cut where they are long."""
    if column is None or column.nbytes <= UTF8_BYTES * characters * len(column):
        return column
    if pa.types.is_dictionary(column.type):
        column = column.combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        return pa.DictionaryArray.from_arrays(column.indices, _shortened_values(column.dictionary, characters))
    return _shortened_values(column, characters)


def row_documents(identities: list[IdentityColumns]) -> OnDemand:
    """The documents of the rows of several messages, made on demand of these columns alone."""
    ends = list(accumulate(rows for rows, _ in identities))
    return OnDemand(ends[-1] if ends else 0, lambda at: _row_document(identities, ends, at))


def _shortened_values(values: Any, characters: int) -> Any:
    if is_text(values.type):
        return compute.utf8_slice_codeunits(values.cast(pa.large_string()), 0, characters)
    if is_binary(values.type):  # one byte more tells what is cut
        return compute.binary_slice(values.cast(pa.large_binary()), 0, UTF8_BYTES * characters + 1)
    return None


def _row_document(identities: list[IdentityColumns], ends: list[int], at: int) -> Document:
    place = bisect_right(ends, at)
    rows, columns = identities[place]
    return _plainly(columns, at - ends[place] + rows)


def _plainly(columns: Mapping[str, Any], row: int) -> Document:
    return {
        path: _plainly(column, row) if isinstance(column, dict) else _plain(column, row)
        for path, column in columns.items()
    }


def _plain(column: Any, row: int) -> str | float | bytes | Decimal | UUID | datetime | None:
    """One value of an id, entity or time column; None where it is none of these."""
    if column is None:
        return None
    one = column.slice(row, 1)
    kind = one.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        one = one.cast(kind)
    elif pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
        one = compute.run_end_decode(one)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _moment(one, kind)
    value: str | float | bytes | Decimal | UUID | None = one[0].as_py() if _is_plain(kind) else None
    return value


def _is_plain(kind: Any) -> bool:
    known = is_text, is_binary, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal
    return any(is_one(kind) for is_one in known) or getattr(kind, "extension_name", "") == "arrow.uuid"


def _moment(one: Any, kind: Any) -> datetime | None:
    """A time from 1970 on that Python can hold; computed in Python's numbers, which do not overflow as Arrow's do."""
    ticks = one.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64())[0].as_py()
    if ticks is None or ticks < 0:
        return None
    if pa.types.is_date32(kind):
        ticks *= SECONDS_OF_A_DAY
    per_second = 1 if pa.types.is_date32(kind) else PER_SECOND[getattr(kind, "unit", "ms")]
    try:
        return EPOCH + timedelta(microseconds=ticks * 10**6 // per_second)
    except OverflowError:
        return None
