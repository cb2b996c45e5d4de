"""The frozen reference set: labelled records that the operator keeps; nothing here ever writes it."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema, encode
from stream_detector.tables import read_table

__all__ = ["Reference"]

LABELS = ("label", "y")
FEWEST = 10  # anomalies, and normal records, below which a share says nothing


@dataclass(frozen=True, slots=True)
class Reference:
    """Labelled records: rows (mappings, or a matrix whose columns are the features in order), true =
    anomaly [record], and the file's SHA-256.
    """

    rows: list[dict[str, Any]] | NDArray[np.float32]
    anomalous: NDArray[np.bool_]
    digest: str

    @classmethod
    def load(cls, path: Path) -> "Reference":
        """From .csv, .parquet or .npz with a column (array) `label` or `y` of 0 and 1; raises `DataError`."""
        table = read_table(path)
        labels = _labels(path)
        if len(labels) != len(table) or not np.isin(labels, (0, 1)).all():
            raise DataError(f"{path}: 'label' must hold 1 (anomaly) or 0 (normal) for each of its {len(table):,} rows")
        anomalous = labels == 1
        if min(anomalous.sum(), (~anomalous).sum()) < FEWEST:
            raise DataError(
                f"{path}: {anomalous.sum():,} anomalies and {(~anomalous).sum():,} normal records; "
                f"a reference set needs at least {FEWEST} of each"
            )
        rows = table if isinstance(table, np.ndarray) else [dict(row) for row in table]
        return cls(rows, anomalous, sha256(path.read_bytes()).hexdigest())

    def matrix(self, schema: FeatureSchema) -> NDArray[np.float32]:
        """The records as float32 [record, feature] of `schema`; raises `DataError` when they do not fit it."""
        if isinstance(self.rows, np.ndarray):
            if self.rows.shape[1] != len(schema.features):
                raise DataError(
                    f"the reference set has {self.rows.shape[1]} columns, the model {len(schema.features)} features; "
                    "give it with column names, or renew it by hand"
                )
            return self.rows
        encoded = encode(schema, self.rows)
        if encoded.rejected:
            row, why = next(iter(encoded.rejected.items()))
            raise DataError(f"the reference set, row {row + 1}: {why.message}; correct it by hand")
        return encoded.matrix


def _labels(path: Path) -> NDArray[np.float64]:
    readers: dict[str, Callable[[Path], Mapping[str, Any]]] = {
        ".npz": _npz_columns,
        ".csv": _csv_columns,
        ".parquet": _parquet_columns,
    }
    columns = readers[path.suffix](path)
    try:
        return np.asarray(next(columns[name] for name in LABELS if name in columns), dtype=np.float64)
    except (StopIteration, ValueError, TypeError):
        raise DataError(f"{path}: has no column 'label' of numbers; 1 = anomaly, 0 = normal") from None


def _npz_columns(path: Path) -> Mapping[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in LABELS if name in arrays}


def _csv_columns(path: Path) -> Mapping[str, Any]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in LABELS if rows and name in rows[0]}


def _parquet_columns(path: Path) -> Mapping[str, Any]:
    from pyarrow import parquet  # noqa: PLC0415 - optional; read_table has said so if it is missing

    table = parquet.read_table(path)
    return {name: table[name].to_pylist() for name in LABELS if name in table.column_names}
