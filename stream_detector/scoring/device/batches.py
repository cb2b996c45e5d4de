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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.scoring.calibration import Calibration
from stream_detector.scoring.device.buffers import Buffers
from stream_detector.scoring.device.nines import Nines
from stream_detector.scoring.device.streams import ExecutionStream, Work
from stream_detector.scoring.device.tile import TileScorer
from stream_detector.scoring.opinions import RawScores
from stream_detector.scoring.scorer import Scorer

__all__ = ["DeviceScorer", "raw_scores"]

TILE = 32_768  # rows computed at once: kernels take hardly less time for fewer
LEAST_TILE = 256
MOST_NUMBERS = 2**26  # most numbers of a tile at once, which bounds memory

Finish = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """Records on the device: where their scores [score, record] go to, and how many of their tiles are searched for."""

    found: Tensor
    searched: int


class DeviceScorer:
    """Scores records on the device where a scorer's networks are.

    Any thread may call it; one batch after the other is on the device.
    """

    def __init__(self, scorer: Scorer, finish: Finish, scores: int, dtype: torch.dtype, tile: int = TILE) -> None:
        device, tile = scorer.device, _fitting(scorer, tile)
        self._scorer, self._finish, self._tile = TileScorer.of(scorer), finish, tile
        self._stream = ExecutionStream.of(device)
        features = len(scorer.normaliser.layout.gaps)
        nobody, pinned = self._scorer.memory.nobody, self._stream.pinned
        self._buffers = Buffers(tile, features, scores, dtype, device, nobody, pinned=pinned)
        self._works: list[Work] = []
        self._last: DeviceLoad | None = None
        self._lock = Lock()

    @classmethod
    def raw(cls, scorer: Scorer, tile: int = TILE) -> "DeviceScorer":
        """Makes one that gives raw scores float64 [view * part, record]."""
        scores = len(scorer.panel.parts) * len(scorer.normaliser.views)
        return cls(scorer, lambda raw: raw, scores, torch.float64, tile)

    @classmethod
    def calibrated(cls, scorer: Scorer, calibration: Calibration, tile: int = TILE) -> "DeviceScorer":
        """Makes one that gives the opinions and the anomaly score in nines, float32 [score, record]."""
        scores = len(scorer.panel.told) + 1
        return cls(scorer, Nines(calibration, scorer.panel, scorer.device), scores, torch.float32, tile)

    def __call__(self, matrix: NDArray[np.float32], own: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Scores [score, record] of records float32 [record, feature]; `own` as for `Scorer.raw`."""
        return self._begin(matrix, own, 0)()

    def begin(self, matrix: NDArray[np.float32]) -> Callable[[], NDArray[Any]]:
        """Begins to score records, without waiting; the function that is returned waits, without Python's lock.

        A tile's search follows at once, without waiting to hear who lies beyond the screen. Beginning
        another batch waits for the one before.
        """
        return self._begin(matrix, None, 1)

    def _begin(
        self, matrix: NDArray[np.float32], own: NDArray[np.int64] | None, searched: int
    ) -> Callable[[], NDArray[Any]]:
        with self._held():
            found = self._buffers.found(len(matrix))
            for first in range(0, len(matrix), self._buffers.load):
                rows = slice(first, first + self._buffers.load)
                self._settle()
                self._judge(matrix[rows], None if own is None else own[rows])
                self._search(range(searched))
                self._buffers.fetch(found[:, rows])
                self._last = DeviceLoad(found[:, rows], searched)
        return partial(self._told, found)

    def _told(self, found: Tensor) -> NDArray[Any]:
        """The scores of a batch, once they are there."""
        with self._held():
            self._settle()
            self._stream.wait()
            return found.numpy().copy()

    def _judge(self, matrix: NDArray[np.float32], own: NDArray[np.int64] | None) -> None:
        """Scores all records of a load, without a search unless everyone is searched for."""
        self._stream.begin()
        self._buffers.begin(own)
        for start in range(0, len(matrix), self._tile):
            tile = matrix[start : start + self._tile]
            self._stream.send(self._buffers.stage(tile, start))
            self._buffers.choose(start)
            self._works[0]()
        self._buffers.count(len(matrix))

    def _search(self, tiles: range) -> None:
        """Scores those tiles of the records beyond the screen again, with a search."""
        for work in self._works[1:]:
            for tile in tiles:
                self._buffers.choose_beyond(tile)
                work()

    def _settle(self) -> None:
        """Searches for the records of the last load that are left, now that their number is known."""
        last, self._last = self._last, None
        if last is None:
            return
        self._stream.wait()
        left = range(last.searched, -(-int(self._buffers.counted) // self._tile))
        if left:
            self._search(left)
            self._buffers.fetch(last.found)

    def _work(self, *, search: bool, again: bool) -> None:
        """Scores a tile, for the first time or again; the first time it marks which records lie beyond the screen."""
        index = self._buffers.beyond() if again else self._buffers.index
        raw, beyond = self._scorer(*self._buffers.take(index), search=search)
        self._buffers.keep(index, self._finish(raw))
        if not search:
            self._buffers.mark(index, beyond)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Lets one thread at a time in, with the stream; the first one records what is repeated as graphs."""
        with self._lock, torch.inference_mode(), self._stream.entered():
            if not self._works:
                passes = enumerate(self._scorer.passes)
                works = [partial(self._work, search=search, again=bool(place)) for place, search in passes]
                self._works = [self._stream.as_graph(work) for work in works]
            yield


def raw_scores(scorer: Scorer, matrix: NDArray[np.float32], own: NDArray[np.int64] | None = None) -> RawScores:
    """Raw scores of records [record, feature] where the scorer's networks are: by the kernel on the CPU, else by tensors.

    `own` is as for `Scorer.raw`.
    """
    if scorer.device.type == "cpu":
        return scorer.raw(matrix, own)
    return RawScores(scorer.panel.parts, np.ascontiguousarray(DeviceScorer.raw(scorer)(matrix, own).T))


def _fitting(scorer: Scorer, tile: int) -> int:
    """The rows of a tile: as many as there is room for, with distances from all kept records and all evidence."""
    first = scorer.gan.discriminator.weights[0]
    width = max(scorer.memory.keys.shape[2], len(first) * first.shape[1])
    while tile > LEAST_TILE and tile * width > MOST_NUMBERS:
        tile //= 2
    return tile
