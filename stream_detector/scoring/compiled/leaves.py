"""The kept records in leaves of like ones: a query need not be compared with those that lie too far off.

A balanced k-d tree (Bentley 1975), of which only the leaves and the box about each are needed. It decides what is
looked at, never what is found.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.gan.memory import LEAF
from stream_detector.scoring.compiled.numbers import Array
from stream_detector.scoring.compiled.products import WIDTH

__all__ = ["Leaves"]


class Leaves(NamedTuple):
    """Of one view: `keys` [block of slots, column, WIDTH], leaf after leaf, and the kept record in each slot, `slots`.

    `low` and `high` [column, leaf] are the corners of a leaf's box; `size` is the greatest squared length of a record.
    """

    keys: Array
    slots: NDArray[np.int64]
    low: Array
    high: Array
    size: np.float32

    @classmethod
    def of(cls, keys: Array, count: int) -> "Leaves":
        """From a memory's keys [column, slot] of `count` records, whose empty slots come last and stay there."""
        known = keys[:-1, :count].T / np.float32(-2)
        order = _ordered(known, np.arange(count))
        boxes = [known[order[first : first + LEAF]] for first in range(0, count, LEAF)]
        slots = np.concatenate((order, np.arange(count, keys.shape[1])))
        blocks = keys[:, slots].reshape(len(keys), -1, WIDTH).transpose(1, 0, 2)
        return cls(
            np.ascontiguousarray(blocks),
            slots,
            np.stack([box.min(0) for box in boxes], 1),
            np.stack([box.max(0) for box in boxes], 1),
            keys[-1, :count].max(),
        )


def _ordered(known: Array, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows, leaf after leaf; only the last one may be short."""
    if len(rows) <= LEAF:
        return rows
    widest = known[rows].var(0).argmax()
    rows = rows[np.argsort(known[rows, widest], kind="stable")]
    middle = LEAF * -(-len(rows) // (2 * LEAF))
    return np.concatenate((_ordered(known, rows[:middle]), _ordered(known, rows[middle:])))
