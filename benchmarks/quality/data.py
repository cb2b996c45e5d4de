"""The sets, and how each is split: learn from normal records alone, test on other normals and all anomalies."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import DataError

__all__ = ["PROTOCOL", "Matrix", "Split", "find_sets", "load_set", "split"]

Matrix = NDArray[np.float32]

DATA_VARIABLE = "STREAM_DETECTOR_DATA"
CHECKOUT = Path(__file__).parents[2]
PROTOCOL = {"train": 20_000, "test_normal": 20_000, "test_anomalies": 5_000, "normals_for_training": 0.5}


@dataclass(frozen=True, slots=True)
class Split:
    """Records float32 [record, feature] (NaN = missing); `anomalous` bool [test record]."""

    train: Matrix
    test: Matrix
    anomalous: NDArray[np.bool_]


def find_sets() -> dict[str, Path]:
    """Every set by its short name, smallest file first; raises `DataError` when there is none."""
    folder = Path(os.environ.get(DATA_VARIABLE, CHECKOUT.parent / "shared" / "data"))
    files = sorted(
        [*folder.glob("adbench/*.npz"), *folder.glob("arrhythmia.npz")], key=lambda file: file.stat().st_size
    )
    if not files:
        raise DataError(f"{folder}: no adbench/*.npz here; set {DATA_VARIABLE} to the folder that holds them")
    return {file.stem.split("_", 1)[-1].lower(): file for file in files}


def load_set(path: Path) -> tuple[Matrix, NDArray[np.bool_]]:
    """Records and which of them are anomalies, whatever number type the file holds."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["X"].astype(np.float32), arrays["y"].astype(bool)


def split(X: Matrix, anomalous: NDArray[np.bool_], seed: int) -> Split:
    """A random half of the normals to learn from; the other half and the anomalies to test on, all capped."""
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(~anomalous))
    anomalies = rng.permutation(np.flatnonzero(anomalous))[: PROTOCOL["test_anomalies"]]
    half = int(len(normal) * PROTOCOL["normals_for_training"])
    held_out = normal[half:][: PROTOCOL["test_normal"]]
    test = np.concatenate([held_out, anomalies])
    return Split(X[normal[:half][: PROTOCOL["train"]]], X[test], anomalous[test])
