"""Writes a training's measurements as TensorBoard events."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Events"]

Rows = list[dict[str, Any]]


class Events:
    """Writes into `folder`; events after `done` steps, of an interrupted training, are marked as void."""

    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional

        purge = done + 1 if done else None
        self._writer = SummaryWriter(log_dir=str(folder), purge_step=purge)

    def add(self, step: int, tables: Mapping[str, Rows]) -> None:
        """Adds the rows of one measured step."""
        for tag, value in _scalars(tables):
            self._writer.add_scalar(tag, value, step)
        for size in sorted({row["size"] for row in tables["scores"]}):
            scores = np.array([row["score"] for row in tables["scores"] if row["size"] == size])
            self._writer.add_histogram(f"scores/{_named(size)}", scores, step)
        self._writer.flush()

    def close(self) -> None:
        """Writes what is buffered."""
        self._writer.close()


def _scalars(tables: Mapping[str, Rows]) -> list[tuple[str, float]]:
    """The tag and the value of every figure."""
    scalars = [(f"auc_{row['opinion']}/{_named(row['size'])}", row["auc"]) for row in tables["detection"]]
    scalars += [(f"loss/{row['loss']}", row["value"]) for row in tables["losses"]]
    scalars += [
        (f"generator/{name}", value) for row in tables["joint"] for name, value in row.items() if name != "step"
    ]
    for figure in ("ks", "wasserstein"):
        values = [row[figure] for row in tables["features"] if row[figure] is not None]
        scalars += [(f"generator/mean_{figure}", float(np.mean(values)))] if values else []
    return scalars


def _named(size: float) -> str:
    return f"size_{size:g}" if size else "normal"
