"""The frozen reference set: labelled records that the operator keeps; it is read and never written."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema, encode
from stream_detector.model import as_matrix
from stream_detector.tables.reading import Table, open_table
from stream_detector.tables.records import label_of
from stream_detector.values import number

__all__ = ["Reference"]

Rows = list[dict[str, Any]] | NDArray[np.float64]
FEWEST = 10  # anomalies, and normal records, below which a share says nothing


@dataclass(frozen=True, slots=True)
class Reference:
    """Labelled records: rows (mappings, or a matrix whose columns are the features in order), true =
    anomaly [record], and the file's SHA-256.
    """

    rows: Rows
    anomalous: NDArray[np.bool_]
    digest: str

    @classmethod
    def load(cls, path: Path) -> "Reference":
        """Loads any table with a column (in NumPy, an array) `label` or `y` of 0 and 1; raises `DataError`."""
        table = open_table(path)
        rows = [dict(row) for row in table.rows] if table.matrix is None else table.matrix.astype(np.float64)
        labels = _labels(table, rows, path)
        if len(labels) != len(rows) or not np.isin(labels, (0, 1)).all():
            raise DataError(f"{path}: 'label' must hold 1 (anomaly) or 0 (normal) for each of its {len(rows):,} rows")
        anomalous = labels == 1
        if min(anomalous.sum(), (~anomalous).sum()) < FEWEST:
            raise DataError(
                f"{path}: {anomalous.sum():,} anomalies and {(~anomalous).sum():,} normal records; "
                f"a reference set needs at least {FEWEST} of each"
            )
        return cls(rows, anomalous, sha256(path.read_bytes()).hexdigest())

    def matrix(self, schema: FeatureSchema) -> NDArray[np.float32]:
        """The records as float32 [record, feature] of `schema`; raises `DataError` when they do not fit it."""
        if isinstance(self.rows, np.ndarray):
            if self.rows.shape[1] != len(schema.features):
                raise DataError(
                    f"the reference set has {self.rows.shape[1]} columns, the model {len(schema.features)} features; "
                    "give it with column names, or renew it by hand"
                )
            return as_matrix(self.rows, schema)
        encoded = encode(schema, self.rows)
        if encoded.rejected:
            row, why = next(iter(encoded.rejected.items()))
            raise DataError(f"the reference set, row {row + 1}: {why.message}; correct it by hand")
        return encoded.matrix


def _labels(table: Table, rows: Rows, path: Path) -> NDArray[np.float64]:
    """1 = anomaly, 0 = normal, NaN where there is none [row]."""
    name = label_of(rows) if isinstance(rows, list) else None
    found = table.labels if table.labels is not None else [row.get(name) for row in rows] if name else None
    try:
        labels = np.array([np.nan if (value := number(each)) is None else value for each in found])  # type: ignore[union-attr]
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: has no column 'label' of numbers; 1 = anomaly, 0 = normal") from None
    return labels
