"""The claims of an Arrow IPC stream: how much it holds when inflated, and how far columns grow when encodings are undone.

The claims are read off the metadata. Rows may share texts and lists (dictionaries, runs, views), which are
small until each row gets a copy.
"""

import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from flatbuffers import number_types
from flatbuffers.table import Table
from numpy.typing import NDArray
from pyarrow import compute, ipc

from stream_detector.records.documents import UTF8_BYTES

__all__ = ["Claims", "claims", "longest", "viewed"]

INT64 = number_types.Int64Flags
HEADER = 8  # field of a Message; the next ones are fields of its header, by their places in the vtable
DICTIONARY = 6
LENGTH, NODES, BUFFERS, COMPRESSION = 4, 6, 8, 10
PREFIX = 8  # bytes before a compressed buffer: its length when inflated
AS_IT_IS = -1  # the prefix of a buffer that is not compressed after all

BOUNDLESS = sys.maxsize  # what lists may grow to, shared by rows or of many values
MOST_ELEMENTS = 1_000_000


class Claims(NamedTuple):
    """`rows` of all record batches; `bytes` of all buffers when inflated, dictionaries and nested columns included.

    `values` is the most that one column holds: columns without buffers take no bytes, however long they are.
    """

    rows: int = 0
    bytes: int = 0
    values: int = 0


def claims(value: bytes) -> Claims:
    """Reads the claims of a stream. Raises ValueError, struct.error or an Arrow exception when it is none."""
    total = Claims()
    for message in ipc.MessageReader.open_stream(value):
        if message.type not in {"record batch", "dictionary"}:
            continue
        batch = _batch(bytes(message.metadata), nested=message.type == "dictionary")
        rows = 0 if message.type == "dictionary" else int(batch.GetSlot(LENGTH, 0, INT64))
        size = sum(_inflated(batch, message.body))
        longest = int(_pairs(batch, NODES)[:, 0].max(initial=0))
        total = Claims(total.rows + rows, total.bytes + size, max(total.values, longest))
    return total


def _batch(metadata: bytes, *, nested: bool) -> Table:
    """The RecordBatch of a message; that of a DictionaryBatch lies within it."""
    message = Table(metadata, struct.unpack_from("<I", metadata)[0])
    header = _inner(message, HEADER)
    return _inner(header, DICTIONARY) if nested else header


def _inner(table: Table, field: int) -> Table:
    at = table.Pos + table.Offset(field)
    return Table(table.Bytes, table.Indirect(at))


def _pairs(batch: Table, field: int) -> NDArray[np.int64]:
    """A vector of structs of two int64 [struct, 2]: field nodes (length, nulls), or buffers (offset, length)."""
    place = batch.Offset(field)
    if not place:
        return np.empty((0, 2), np.int64)
    count = batch.VectorLen(place)
    return np.frombuffer(batch.Bytes, "<i8", 2 * count, batch.Vector(place)).reshape(-1, 2)


def _inflated(batch: Table, body: Any) -> Iterator[int]:
    """Bytes of each buffer; one that several columns share counts for each."""
    compressed = bool(batch.Offset(COMPRESSION))
    for offset, length in _pairs(batch, BUFFERS).tolist():
        if min(offset, length) < 0:
            raise ValueError(f"a buffer of {length} bytes at {offset}")
        if not compressed or not length:
            yield length
            continue
        (size,) = struct.unpack_from("<q", body, offset)
        if size < AS_IT_IS:
            raise ValueError(f"a buffer of {size} bytes when inflated")
        yield length - PREFIX if size == AS_IT_IS else size


def viewed(values: Any) -> int:
    """Bytes of a column's texts where they are views; beyond all bounds where they are in lists."""
    kind = values.type
    if _is_view(kind):
        return int(_view_lengths(values).sum(dtype=np.int64))
    if pa.types.is_struct(kind):
        return sum(viewed(values.field(at)) for at in range(kind.num_fields))
    return viewed(values.dictionary) if pa.types.is_dictionary(kind) else BOUNDLESS * _holds_views(kind)


def _holds_views(kind: Any) -> bool:
    return any(_is_view(each) or _holds_views(each) for each in (kind.field(at).type for at in range(kind.num_fields)))


def _is_view(kind: Any) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _view_lengths(values: Any) -> NDArray[np.int32]:
    views = np.frombuffer(values.buffers()[1] or b"", "<i4").reshape(-1, 4)  # of each the first is its length
    return views[values.offset : values.offset + len(values), 0]


def longest(values: Any, *, shared: bool = False) -> int:
    """Characters of the longest text that rows may share, or fewer; 0 where they share none."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return longest(values.dictionary, shared=True)
    if pa.types.is_run_end_encoded(kind):
        return longest(values.values, shared=True)
    if _is_view(kind):
        return int(_view_lengths(values).max(initial=0)) // UTF8_BYTES
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
    if shared and (texts or pa.types.is_large_binary(kind)):
        return int(compute.max(compute.binary_length(values)).as_py() or 0) // UTF8_BYTES
    if pa.types.is_struct(kind) and not shared:
        return max((longest(values.field(at)) for at in range(kind.num_fields)), default=0)
    return BOUNDLESS if pa.types.is_nested(kind) and (shared or _elements(values) > MOST_ELEMENTS) else 0


def _elements(values: Any) -> int:
    """The number of values in the lists of a column; as objects they take many times their size in Arrow."""
    kind = values.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return len(values.values) if lists or pa.types.is_map(kind) else 0
