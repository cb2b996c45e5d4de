"""Arrow tables as rows of plain values, whatever types their columns have."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import compute

__all__ = ["rows_of"]


def rows_of(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of a `pyarrow.Table` or `RecordBatch`; None where a value is missing.

    Numbers (decimals, too), booleans and text are Python's own, a struct is a mapping, a time a `datetime`.
    Encodings are undone. Of columns with one name the last counts.
    """
    names = table.schema.names
    columns = [_values(table.column(place)) for place in range(len(names))]
    rows = zip(*columns, strict=True) if columns else iter([()] * table.num_rows)
    return (dict(zip(names, cells, strict=True)) for cells in rows)


def _values(column: Any) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    elif pa.types.is_run_end_encoded(column.type):
        column = compute.run_end_decode(column)
    if pa.types.is_struct(column.type):
        return _structs(column)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    elif pa.types.is_timestamp(column.type) and column.type.unit == "ns":  # Python's times have microseconds
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (
        ValueError,
        OverflowError,
        KeyError,
    ):  # what Python has no value for, such as the year 10,000, stays Arrow's
        values = [each if each.is_valid else None for each in column]
    return values


def _structs(column: Any) -> list[Any]:
    names = [column.type.field(place).name for place in range(column.type.num_fields)]
    fields = [_values(compute.struct_field(column, [place])) for place in range(len(names))]
    missing = column.is_null().to_pylist()
    cells = zip(*fields, strict=True) if fields else iter([()] * len(missing))
    return [None if gone else dict(zip(names, each, strict=True)) for gone, each in zip(missing, cells, strict=True)]
