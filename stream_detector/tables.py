"""Tables on disk: training and scoring data in, scores out.

`.npz` holds a matrix `X` [row, feature] and perhaps its column `names`; `.csv` and `.parquet`
hold named columns. An empty cell is a missing value. A column named `label` or `y` is never
read as a feature.
"""

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import DataError

__all__ = ["Row", "read_table", "write_columns"]

Row = dict[str, float | str | None]
LABELS = frozenset({"label", "y"})


def read_table(path: Path) -> list[Row] | NDArray[np.float32]:
    """Rows of named values, or a float32 matrix [row, feature] where columns have no names.

    Raises `DataError` that names the file, what is wrong with it, and what is expected.
    """
    readers: dict[str, Callable[[Path], list[Row] | NDArray[np.float32]]] = {
        ".npz": _read_npz,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: cannot read {path.suffix or 'a file without suffix'!r}; give {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


def write_columns(path: Path, columns: dict[str, NDArray[np.float32]]) -> None:
    """Writes equally long columns as .npz, .csv or .parquet, by the path's suffix."""
    if path.suffix == ".npz":
        np.savez_compressed(path, **columns)  # type: ignore[arg-type]
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(map(str, column) for column in columns.values()), strict=True))
    elif path.suffix == ".parquet":
        arrow, parquet = _pyarrow(path)
        parquet.write_table(arrow.table(dict(columns)), path)
    else:
        raise DataError(f"{path}: cannot write {path.suffix!r}; give .npz, .csv or .parquet")


def _read_npz(path: Path) -> list[Row] | NDArray[np.float32]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            matrix = np.asarray(arrays["X"], dtype=np.float64)
            names = [str(name) for name in arrays["names"]] if "names" in arrays else None
    except KeyError:
        raise DataError(f"{path}: holds no array 'X'; save one with numpy.savez(path, X=matrix)") from None
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: 'X' is no matrix of numbers ({error})") from None
    if matrix.ndim != 2:
        raise DataError(f"{path}: 'X' has {matrix.ndim} dimensions; expected [row, feature]")
    if names is None:
        return matrix.astype(np.float32)
    return [dict(zip(names, map(_missing_as_none, row), strict=True)) for row in matrix.tolist()]


def _read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            reader = csv.DictReader(file)
            names = [name for name in reader.fieldnames or () if name not in LABELS]
            texts = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a CSV file ({error})") from None
    if not texts or not names:
        raise DataError(f"{path}: holds no rows; expected a header line and rows below it")
    if any(None in row or None in row.values() for row in texts):
        line = next(n for n, row in enumerate(texts, 2) if None in row or None in row.values())
        raise DataError(f"{path}: line {line} has another number of cells than the header")
    columns = {name: _typed([row[name] for row in texts]) for name in names}
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _read_parquet(path: Path) -> list[Row]:
    arrow, parquet = _pyarrow(path)
    try:
        table = parquet.read_table(path)
    except arrow.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({error})") from None
    names = [name for name in table.column_names if name not in LABELS]
    columns = [[_cell(value) for value in table[name].to_pylist()] for name in names]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: Parquet needs pyarrow; install stream-detector[training]") from None
    return pa, parquet


def _typed(cells: Iterable[str]) -> list[float | str | None]:
    """A column as numbers when every filled cell is one, as text otherwise."""
    texts = [cell.strip() or None for cell in cells]
    try:
        return [None if text is None else _missing_as_none(float(text)) for text in texts]
    except ValueError:
        return list(texts)


def _cell(value: Any) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    return _missing_as_none(float(value))


def _missing_as_none(value: float) -> float | None:
    return None if value != value else value
