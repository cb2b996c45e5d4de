"""Writes results as a table: JSON lines or CSV row by row, .npz and .parquet at the end."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
import pyarrow as pa
from pyarrow import parquet

from stream_detector.errors import DataError
from stream_detector.runtime.files import check_target, replacing
from stream_detector.tables.reading import STANDARD

__all__ = ["require_writable", "write_batches"]

Batch = Mapping[str, Any]
"""Equally long columns by name; every batch has the same ones."""


def require_writable(path: Path) -> None:
    """Raises `DataError` when `path` is no name of a table that can be written, `WriteError` when no file can be there."""
    if path != STANDARD and path.suffix not in WRITERS:
        raise DataError(f"{path}: cannot write {path.suffix!r}; give {', '.join(WRITERS)}, or - for standard output")
    if path != STANDARD:
        check_target(path)


def write_batches(path: Path, batches: Iterable[Batch]) -> None:
    """Writes the batches one after the other, as the path's suffix says; `-` is JSON lines on standard output.

    A file is there when the last batch is. Raises as `require_writable`, and `WriteError` when it cannot be written.
    """
    require_writable(path)
    if path == STANDARD:
        _write_json(sys.stdout.buffer, batches)
        sys.stdout.buffer.flush()
        return
    with replacing(path) as partial, partial.open("wb") as file:
        WRITERS[path.suffix](file, batches)


def _write_json(file: IO[bytes], batches: Iterable[Batch]) -> None:
    for batch in batches:
        for cells in zip(*batch.values(), strict=True):
            file.write(orjson.dumps(dict(zip(batch, map(_json, cells), strict=True))) + b"\n")


def _json(cell: Any) -> Any:
    if isinstance(cell, np.floating):
        return None if np.isnan(cell) else float(str(cell))
    return cell


def _write_csv(file: IO[bytes], batches: Iterable[Batch]) -> None:
    text = csv.writer(Text(file), lineterminator="\n")
    for number, batch in enumerate(batches):
        if not number:
            text.writerow(batch)
        text.writerows([_words(cell) for cell in cells] for cells in zip(*batch.values(), strict=True))


class Text:
    """A binary file that takes text."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Writes text in UTF-8; returns the number of bytes."""
        return self._file.write(text.encode(errors="backslashreplace"))


def _words(cell: Any) -> str:
    if isinstance(cell, float | np.floating) and cell != cell:
        return ""
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell)).lower()
    return leading_words(cell) if isinstance(cell, list) else str(cell)


def leading_words(features: Sequence[Mapping[str, Any]]) -> str:
    """Leading features as one cell of text: name, direction, share."""
    return "; ".join(f"{each['feature']} {each['direction']} {each['contribution']:.0%}" for each in features)


def _whole(batches: Iterable[Batch]) -> dict[str, Any]:
    """Joins all batches: arrays of numbers and truths, text otherwise."""
    parts: dict[str, list[Any]] = {}
    for batch in batches:
        for name, column in batch.items():
            cells = [leading_words(cell) if isinstance(cell, list) else cell for cell in column]
            parts.setdefault(name, []).append(column if isinstance(column, np.ndarray) else np.array(cells))
    return {name: np.concatenate(part) for name, part in parts.items()}


def _write_npz(file: IO[bytes], batches: Iterable[Batch]) -> None:
    np.savez_compressed(file, **_whole(batches))


def _write_parquet(file: IO[bytes], batches: Iterable[Batch]) -> None:
    parquet.write_table(pa.table(_whole(batches)), file)


WRITERS = {".npz": _write_npz, ".csv": _write_csv, ".parquet": _write_parquet, ".jsonl": _write_json}
