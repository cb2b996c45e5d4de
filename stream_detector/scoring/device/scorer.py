"""Batches of any size on a device, tile after tile of one shape.

Every product sees as many rows as a tile has, so a record has the same score to the bit alone, in any
batch and in any order. All records are judged without a search first; those beyond the screen are
then gathered into tiles and judged again, with one. Only records and scores are copied.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.scoring.calibration import Calibration, Weights
from stream_detector.scoring.device.buffers import Buffers
from stream_detector.scoring.device.judging import Judging
from stream_detector.scoring.device.nines import Nines
from stream_detector.scoring.device.road import Road, Work

if TYPE_CHECKING:
    from stream_detector.scoring.scorer import Scorer

__all__ = ["DeviceScorer"]

TILE = 32_768  # rows computed at once: kernels take hardly less time for fewer
LEAST_TILE = 256
ROOM = 2**26  # most numbers of a tile at once, which bounds memory

Finish = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Load:
    """What is on the device: to where its scores [score, record] go, and how many tiles of it are searched for."""

    found: Tensor
    searched: int


class DeviceScorer:
    """Scores of a scorer's records on the device where its networks are. Any thread may call it; one batch after
    the other is on the device.
    """

    def __init__(self, scorer: "Scorer", finish: Finish, scores: int, dtype: torch.dtype, tile: int = TILE) -> None:
        device, tile = scorer.usual.device, _fitting(scorer, tile)
        self._judging, self._finish, self._tile = Judging.of(scorer), finish, tile
        self._road = Road.of(device)
        features = len(scorer.normaliser.layout.gaps)
        nobody, pinned = self._judging.memory.nobody, self._road.pinned
        self._buffers = Buffers(tile, features, scores, dtype, device, nobody, pinned=pinned)
        self._works: list[Work] = []
        self._last: Load | None = None
        self._lock = Lock()

    @classmethod
    def raw(cls, scorer: "Scorer", tile: int = TILE) -> "DeviceScorer":
        """One that tells raw scores float64 [view * part, record]."""
        return cls(scorer, lambda raw: raw, 4 * len(scorer.normaliser.views), torch.float64, tile)

    @classmethod
    def calibrated(
        cls, scorer: "Scorer", calibration: Calibration, weights: Weights, tile: int = TILE
    ) -> "DeviceScorer":
        """One that tells inversion, discriminator and anomaly in nines, float32 [3, record]."""
        return cls(scorer, Nines(calibration, weights, scorer.usual.device), 3, torch.float32, tile)

    def __call__(self, matrix: NDArray[np.float32], own: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Scores [score, record] of records float32 [record, feature]; `own` as for `Scorer.raw`."""
        return self._begin(matrix, own, 0)()

    def begin(self, matrix: NDArray[np.float32]) -> Callable[[], NDArray[Any]]:
        """The same without waiting; the function that is returned waits, without Python's lock.

        A tile's search follows at once, without waiting to hear who lies beyond the screen. Beginning
        another batch waits for the one before.
        """
        return self._begin(matrix, None, 1)

    def _begin(
        self, matrix: NDArray[np.float32], own: NDArray[np.int64] | None, searched: int
    ) -> Callable[[], NDArray[Any]]:
        with self._taken():
            found = self._buffers.found(len(matrix))
            for first in range(0, len(matrix), self._buffers.load):
                rows = slice(first, first + self._buffers.load)
                self._settle()
                self._judge(matrix[rows], None if own is None else own[rows])
                self._search(range(searched))
                self._buffers.fetch(found[:, rows])
                self._last = Load(found[:, rows], searched)
        return partial(self._told, found)

    def _told(self, found: Tensor) -> NDArray[Any]:
        """The scores of a batch, once they are there."""
        with self._taken():
            self._settle()
            self._road.wait()
            return found.numpy().copy()

    def _judge(self, matrix: NDArray[np.float32], own: NDArray[np.int64] | None) -> None:
        """All records of a load, without a search unless everyone is searched for."""
        self._road.begin()
        self._buffers.begin(own)
        for start in range(0, len(matrix), self._tile):
            tile = matrix[start : start + self._tile]
            self._road.send(self._buffers.stage(tile, start))
            self._buffers.choose(start)
            self._works[0]()
        self._buffers.count(len(matrix))

    def _search(self, tiles: range) -> None:
        """Those tiles of the records beyond the screen again, with a search."""
        for work in self._works[1:]:
            for tile in tiles:
                self._buffers.choose_beyond(tile)
                work()

    def _settle(self) -> None:
        """Searches for whoever of the last load is left, now that their number is known."""
        last, self._last = self._last, None
        if last is None:
            return
        self._road.wait()
        left = range(last.searched, -(-int(self._buffers.counted) // self._tile))
        if left:
            self._search(left)
            self._buffers.fetch(last.found)

    def _work(self, *, search: bool, again: bool) -> None:
        """A tile, for the first time or again: its scores, and at first who lies beyond the screen."""
        index = self._buffers.beyond() if again else self._buffers.index
        raw, beyond = self._judging(*self._buffers.take(index), search=search)
        self._buffers.keep(index, self._finish(raw))
        if not search:
            self._buffers.mark(index, beyond)

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """One thread at a time, the road to the device its own; at first what is repeated is captured."""
        with self._lock, torch.inference_mode(), self._road.taken():
            if not self._works:
                passes = enumerate(self._judging.passes)
                works = [partial(self._work, search=search, again=bool(place)) for place, search in passes]
                self._works = [self._road.captured(work) for work in works]
            yield


def _fitting(scorer: "Scorer", tile: int) -> int:
    """As many rows as there is room for distances from all kept records and for what all discriminators are shown."""
    first = scorer.gan.discriminator.weights[0]
    width = max(scorer.memory.keys.shape[2], len(first) * first.shape[1])
    while tile > LEAST_TILE and tile * width > ROOM:
        tile //= 2
    return tile
