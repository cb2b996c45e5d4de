"""Batches of any size on a device, tile after tile of one shape.

Every product sees as many rows as a tile has, so a record has the same score to the bit alone, in any
batch and in any order. All records are judged without a search first; those beyond the screen are
then gathered into tiles and judged again, with one. Only records and scores are copied.
"""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.scoring.calibration import Calibration, Weights
from stream_detector.scoring.device.judging import Judging
from stream_detector.scoring.device.nines import Nines
from stream_detector.scoring.device.road import Road, Work

if TYPE_CHECKING:
    from stream_detector.scoring.scorer import Scorer

__all__ = ["DeviceScorer"]

TILE = 32_768  # rows computed at once: kernels take hardly less time for fewer
TILES = 8  # of a load: what is on the device at once
LEAST_TILE = 256
ROOM = 2**26  # most numbers of a tile at once, which bounds memory

Finish = Callable[[Tensor], Tensor]


class DeviceScorer:
    """Scores of a scorer's records on the device where its networks are; several threads take turns."""

    def __init__(self, scorer: "Scorer", finish: Finish, scores: int, dtype: torch.dtype, tile: int = TILE) -> None:
        device, tile = scorer.usual.device, _fitting(scorer, tile)
        self._judging, self._finish, self._tile = Judging.of(scorer), finish, tile
        self._road = Road.of(device)
        features, load = len(scorer.normaliser.layout.gaps), tile * TILES
        self._staged = torch.zeros(load, features, pin_memory=self._road.pinned)
        self._records = torch.zeros(load + 1, features, device=device)  # one more, for rows that are nobody's
        self._own = torch.full((load + 1,), self._judging.memory.nobody, device=device)
        self._beyond = torch.zeros(load + 1, dtype=torch.bool, device=device)
        self._scores = torch.zeros(scores, load + 1, dtype=dtype, device=device)
        self._index = torch.zeros(tile, dtype=torch.int64, device=device)
        self._everyone = torch.arange(load, device=device)
        self._works: list[Work] = []
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
        """Scores [score, record] of records float32 [record, feature]; `own` as for `Scorer.raw`.

        Waits for the device without Python's lock.
        """
        with self._lock, torch.inference_mode(), self._road.taken():
            self._prepare()
            found = torch.empty(len(self._scores), len(matrix), dtype=self._scores.dtype, pin_memory=self._road.pinned)
            for first in range(0, len(matrix), len(self._staged)):
                rows = slice(first, first + len(self._staged))
                self._judge(matrix[rows], None if own is None else own[rows])
                self._fetch(found[:, rows])
            self._road.wait()
            return found.numpy().copy()

    def _judge(self, matrix: NDArray[np.float32], own: NDArray[np.int64] | None) -> None:
        """All records of a load, and again those beyond the screen."""
        nobody = self._judging.memory.nobody
        self._own.fill_(nobody)
        if own is not None:
            self._own[: len(own)].copy_(torch.from_numpy(np.where(own < 0, nobody, own)))
        first, *later = self._works
        self._road.begin()
        for start in range(0, len(matrix), self._tile):
            self._send(matrix[start : start + self._tile], start)
            self._index.copy_(self._everyone[start : start + self._tile])
            first()
        for again in later:
            self._judge_again(again, self._beyond[: len(matrix)].nonzero().flatten())

    def _judge_again(self, work: Work, chosen: Tensor) -> None:
        """The chosen records [place], gathered into tiles that nobody's rows fill up."""
        for start in range(0, len(chosen), self._tile):
            some = chosen[start : start + self._tile]
            self._index.fill_(len(self._staged))[: len(some)].copy_(some)
            work()

    def _send(self, matrix: NDArray[np.float32], start: int) -> None:
        """A tile's records to the device, without waiting for it."""
        rows = slice(start, start + len(matrix))
        np.copyto(self._staged[rows].numpy(), matrix)
        self._road.send(lambda: self._records[rows].copy_(self._staged[rows], non_blocking=True))

    def _fetch(self, found: Tensor) -> None:
        """A load's scores [score, record], without waiting for them."""
        for to, scores in zip(found, self._scores, strict=True):
            to.copy_(scores[: len(to)], non_blocking=True)

    def _work(self, *, search: bool) -> None:
        """A tile: of the records that `_index` names the scores, and who lies beyond the screen."""
        rows, own = self._records.index_select(0, self._index), self._own.index_select(0, self._index)
        raw, beyond = self._judging(rows, own, search=search)
        self._scores.index_copy_(1, self._index, self._finish(raw))
        if not search:
            self._beyond.index_copy_(0, self._index, beyond)

    def _prepare(self) -> None:
        """Captures what is repeated, the first time."""
        if not self._works:
            self._index.fill_(len(self._staged))
            works = [partial(self._work, search=search) for search in self._judging.passes]
            self._works = [self._road.captured(work) for work in works]


def _fitting(scorer: "Scorer", tile: int) -> int:
    """As many rows as there is room for distances from all kept records and for what all discriminators are shown."""
    first = scorer.gan.discriminator.weights[0]
    width = max(scorer.memory.keys.shape[2], len(first) * first.shape[1])
    while tile > LEAST_TILE and tile * width > ROOM:
        tile //= 2
    return tile
