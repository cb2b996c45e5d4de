"""Buffers that stay where they are on a device: records, scores, and which of them a tile is about."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Buffers"]

TILES = 8  # of a load: what is on the device at once


class Buffers:
    """Holds a load of records [record, feature], their scores [score, record], and `index`, which names a tile's.

    There is one record more, nobody's, for rows that fill up a tile. `counted` is how many lie beyond the screen.
    """

    def __init__(
        self,
        tile: int,
        features: int,
        scores: int,
        dtype: torch.dtype,
        device: torch.device,
        nobody: int,
        *,
        pinned: bool,
    ) -> None:
        self.load = load = tile * TILES
        self._tile, self._nobody, self._pinned = tile, nobody, pinned
        self._staged = torch.zeros(load, features, pin_memory=pinned, dtype=torch.float32)
        self._records = torch.zeros(load + 1, features, device=device, dtype=torch.float32)
        self._own = torch.full((load + 1,), nobody, device=device)
        self._beyond = torch.zeros(load + 1, dtype=torch.bool, device=device)
        self._scores = torch.zeros(scores, load + 1, dtype=dtype, device=device)
        self._everyone = torch.arange(load + 1, device=device)
        self.index = torch.full((tile,), load, device=device)
        self._skipped = torch.zeros(1, dtype=torch.int64, device=device)
        self.counted = torch.zeros(1, dtype=torch.int64, pin_memory=pinned)

    def found(self, records: int) -> Tensor:
        """Makes room for the scores [score, record] of so many records in the host's memory."""
        return torch.empty(len(self._scores), records, dtype=self._scores.dtype, pin_memory=self._pinned)

    def begin(self, own: NDArray[np.int64] | None) -> None:
        """Begins another load; `own` [record] are the kept records that they are themselves, -1 for none."""
        self._beyond.fill_(value=False)
        self._own.fill_(self._nobody)
        if own is not None:
            self._own[: len(own)].copy_(torch.from_numpy(np.where(own < 0, self._nobody, own)))

    def stage(self, matrix: NDArray[np.float32], start: int) -> Callable[[], object]:
        """Puts records where they can be copied from; returns what copies them."""
        rows = slice(start, start + len(matrix))
        np.copyto(self._staged[rows].numpy(), matrix)
        return lambda: self._records[rows].copy_(self._staged[rows], non_blocking=True)

    def choose(self, start: int) -> None:
        """Makes a tile of the load's records the next."""
        self.index.copy_(self._everyone[start : start + self._tile])

    def choose_beyond(self, tile: int) -> None:
        """Makes that tile of those beyond the screen the next."""
        self._skipped.fill_(tile * self._tile)

    def beyond(self) -> Tensor:
        """The records [row] beyond the screen, less those of earlier tiles, and nobody's."""
        rank = self._beyond.cumsum(0) - (1 + self._skipped)
        place = torch.where(self._beyond & (rank >= 0), rank.clamp_max(self._tile), self._tile)
        found = torch.full_like(self._everyone[: self._tile + 1], self.load)
        return found.scatter_(0, place, self._everyone)[:-1]

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """A tile's records [row, feature], and which kept records they are [row]."""
        return self._records.index_select(0, index), self._own.index_select(0, index)

    def keep(self, index: Tensor, scores: Tensor) -> None:
        """Keeps a tile's scores [score, row]."""
        self._scores.index_copy_(1, index, scores)

    def mark(self, index: Tensor, beyond: Tensor) -> None:
        """Marks which rows of a tile lie beyond the screen [row]."""
        self._beyond.index_copy_(0, index, beyond)

    def count(self, records: int) -> None:
        """Counts those beyond the screen among the first records, without waiting."""
        self._beyond[records:].fill_(value=False)
        self.counted.copy_(self._beyond.sum(), non_blocking=True)

    def fetch(self, found: Tensor) -> None:
        """Copies a load's scores [score, record] to the host, without waiting for them."""
        for to, scores in zip(found, self._scores, strict=True):
            to.copy_(scores[: len(to)], non_blocking=True)
