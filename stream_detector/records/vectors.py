"""Records that are bare vectors: float32, little-endian, one value a feature in the model's order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import RecordConfig
from stream_detector.features import FeatureSchema, Rejection
from stream_detector.records.unusable import unfit

__all__ = ["decode_vectors"]

WIDTH = 4  # bytes of a float32


def decode_vectors(
    values: Sequence[bytes | None], schema: FeatureSchema, config: RecordConfig
) -> tuple[NDArray[np.float32], list[int], dict[int, Rejection]]:
    """Decodes to the matrix float32 [kept, feature], positions kept, and the reasons of the others; NaN = missing."""
    columns = len(schema.features)
    rejected = {at: reason for at, value in enumerate(values) if (reason := _misfit(value, columns, config))}
    kept = [at for at in range(len(values)) if at not in rejected]
    data = b"".join(values[at] or b"" for at in kept)
    matrix = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(len(kept), columns)
    faults = _faults(matrix, schema)
    if schema.origins.any():
        matrix = (matrix.astype(np.float64) - schema.origins).astype(np.float32)
    if not faults:
        return matrix, kept, rejected
    rejected |= {kept[row]: reason for row, reason in faults.items()}
    sound = [row for row in range(len(kept)) if row not in faults]
    return matrix[sound], [kept[row] for row in sound], rejected


def _misfit(value: bytes | None, columns: int, config: RecordConfig) -> Rejection | None:
    if value is not None and len(value) == columns * WIDTH <= config.max_bytes:
        return None
    size = len(value or b"")
    wrong = Rejection("undecodable", f"{size} bytes, expected {columns * WIDTH}: {columns} float32, one a feature")
    return unfit(value, config) or wrong


def _faults(matrix: NDArray[np.float32], schema: FeatureSchema) -> dict[int, Rejection]:
    faults: dict[int, Rejection] = {}
    for row, column in np.argwhere(np.isinf(matrix)).tolist():
        faults.setdefault(row, Rejection("non-finite", f"feature {schema.names[column]!r} is infinite"))
    required = [column for column, feature in enumerate(schema.features) if feature.required]
    for row, place in np.argwhere(np.isnan(matrix[:, required])).tolist() if required else ():
        name = schema.names[required[place]]
        faults.setdefault(row, Rejection("missing-feature", f"feature {name!r} is required and missing"))
    return faults
