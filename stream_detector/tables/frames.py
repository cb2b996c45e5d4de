"""Records in the forms that Python programs hold them in: matrices, mappings, DataFrames, structured arrays."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream_detector.errors import DataError

__all__ = ["Records", "as_numbers", "as_rows", "is_float32"]

Records = ArrayLike | Sequence[Mapping[str, Any]] | Any
"""A matrix [record, feature], mappings from feature name to value, or a DataFrame of pandas, polars or Arrow."""

Row = Mapping[str, Any]
ABSENT = frozenset({"NAType", "NaTType", "MaskedConstant"})  # what pandas and NumPy put for no value
FORMS = "give a matrix [record, feature], a list of mappings, or a DataFrame of pandas, polars or Arrow"


def as_rows(X: Records) -> Sequence[Row] | None:
    """Records that have names, as mappings; None where X is a bare matrix, or is to be read as one.

    Columns of a DataFrame or a structured array are taken by name. Raises `DataError` when names repeat, or
    mappings and others are mixed.
    """
    if isinstance(X, Mapping | str | bytes):
        raise DataError(f"records are one {type(X).__name__}; {FORMS}")
    if isinstance(X, Sequence):
        return _mappings(X)
    if isinstance(X, np.ndarray):
        return _structured(X) if X.dtype.names else None
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return _from_pandas(X)
    named = hasattr(X, "columns") or hasattr(X, "schema")
    return _from_arrow(X) if named and any(hasattr(X, f"__arrow_c_{kind}__") for kind in ("stream", "array")) else None


def is_float32(X: Records) -> bool:
    """Tells whether X is a float32 array already, as a worker's records are."""
    return type(X) is np.ndarray and X.dtype == np.float32


def as_numbers(X: Records) -> NDArray[np.float64]:
    """Converts X to float64 [record, feature], NaN where a value is missing; raises `DataError` when it is no matrix of numbers."""
    try:
        matrix = _doubles(
            np.ma.filled(X.astype(np.float64), np.nan) if isinstance(X, np.ma.MaskedArray) else np.asarray(X)
        )
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(f"records of type {type(X).__name__} are no matrix of numbers ({error}); {FORMS}") from None
    if matrix.ndim != 2:
        raise DataError(f"records have shape {list(matrix.shape)}; {FORMS}")
    return matrix


def _doubles(array: NDArray[Any]) -> NDArray[np.float64]:
    if array.dtype.kind == "O":
        return np.array([_number(value) for value in array.ravel()], dtype=np.float64).reshape(array.shape)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"its type is {array.dtype}")
    return array.astype(np.float64, copy=False)


def _number(value: object) -> float:
    if value is None or type(value).__name__ in ABSENT:
        return np.nan
    if isinstance(value, Real | Decimal | np.bool_):
        return float(value)
    raise TypeError(f"it holds {value!r:.40}")


def _mappings(X: Sequence[Any]) -> Sequence[Row] | None:
    named = [isinstance(row, Mapping) for row in X]
    if all(named):
        return _plain(X)
    if any(named):
        raise DataError(
            f"record {named.index(False)} is {type(X[named.index(False)]).__name__}, others are mappings; {FORMS}"
        )
    return None


def _plain(rows: Iterable[Row]) -> list[Row]:
    """Puts None for what other libraries put for no value; a row without any is not copied."""
    return [
        {name: None if type(value).__name__ in ABSENT else value for name, value in row.items()}
        if any(type(value).__name__ in ABSENT for value in row.values())
        else row
        for row in rows
    ]


def _from_pandas(frame: Any) -> list[Row]:
    names = [str(name) for name in frame.columns]
    _require_different(names)
    columns = [frame.iloc[:, place].tolist() for place in range(len(names))]
    return _plain(dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))


def _from_arrow(frame: Any) -> list[Row]:
    """Reads a frame of polars, pyarrow or any library that hands it over as an Arrow stream."""
    import pyarrow as pa  # noqa: PLC0415 - takes its time to load

    from stream_detector.records.arrow_rows import rows_of  # noqa: PLC0415

    table = pa.table(frame)
    _require_different(table.schema.names)
    return list(rows_of(table))


def _structured(array: NDArray[Any]) -> list[Row]:
    names = array.dtype.names or ()
    missing = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    columns = [np.ma.getdata(array[name]).tolist() for name in names]
    rows = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if missing is None:
        return list(rows)
    return [
        {name: None if gone[name] else value for name, value in row.items()}
        for row, gone in zip(rows, missing, strict=True)
    ]


def _require_different(names: Sequence[str]) -> None:
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"two columns are called {doubles[0]!r}; give each a name of its own")
