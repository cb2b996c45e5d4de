"""Kept normal records, and the nearest of them to others.

A generator says what normal records may look like, a memory what they did look like: the latents of
a record's nearest neighbours are the prior of its inversion, and the displacement from them is what
the discriminator judges. One exact search a view serves both.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from threading import get_ident

import torch
from torch import Tensor
from torch.nn.functional import pad

from stream_detector.gan.networks import Gan

__all__ = ["NEAR", "Memory", "capacity", "least_positions", "selected"]

NEAR = 3  # neighbours looked for
CHUNK = 16  # records whose least distance is found first
LEAF = 64  # slots come in whole leaves
NOWHERE = 1e30  # squared distance of an empty slot
BUFFER_ROWS = 256  # most rows whose distances are written into the same buffer again
BLOCK = 1024  # rows compared at once when records are selected
ROUNDS = 8  # in which rare records are drawn
LEAST_CHANCE = 1e-12  # of a record like one that is kept
BUDGET = 32 * 2**20  # bytes that the kept records may take


@dataclass(frozen=True, slots=True)
class Memory:
    """`records` float32 [view, record, column], their `latents` [member, record, latent], and the
    `keys` [view, column + context + 1, slot] whose product with a record is its squared distance,
    short of what is the same for all.
    """

    records: Tensor
    latents: Tensor
    keys: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, gan: Gan, records: Tensor, context: Tensor) -> "Memory":
        """Makes the memory of normal records [view, record, column], more than `NEAR` of them, and their context."""
        members = records.repeat_interleave(len(gan.encoder.weights[0]) // len(records), 0)
        latents = gan.encode(members, context.expand(len(members), -1, -1))
        known = torch.cat((records, _weighed_context(records, context)), 2)
        keys = torch.cat((-2 * known, known.square().sum(2, keepdim=True)), 2).transpose(1, 2)
        lacking = -keys.shape[2] % LEAF
        keys = pad(keys, (0, lacking))
        keys[:, -1, keys.shape[2] - lacking :] = NOWHERE
        return cls(records, latents.contiguous(), keys.contiguous())

    def nearest(self, records: Tensor, context: Tensor, own: Tensor | None = None) -> Tensor:
        """Indices [view, row, NEAR] of the nearest kept records, the nearest first.

        `records` [view, row, column], `context` [row, column]; `own` [row] are indices of kept
        records that are not to be found, -1 for none. Neighbours share the context, if they can.
        """
        ones = records.new_ones(*records.shape[:2], 1)
        queries = torch.cat((records, _weighed_context(records, context), ones), 2)
        return torch.stack([self._search(query, keys, own) for query, keys in zip(queries, self.keys, strict=True)])

    def neighbours(self, nearest: Tensor) -> Tensor:
        """The records [view, row, NEAR, column] that `nearest` is the indices of."""
        views, rows, _ = nearest.shape
        found = [kept.index_select(0, index.flatten()) for kept, index in zip(self.records, nearest, strict=True)]
        return torch.stack(found).view(views, rows, NEAR, -1)

    def prior(self, nearest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The neighbours' latents [member, row, NEAR * latent] side by side, their mean [member, row, latent], and
        their mean squared distance from it [member, row].
        """
        per_view = len(self.latents) // len(nearest)
        rows = nearest.shape[1]
        found = torch.stack(
            [kept.index_select(0, nearest[member // per_view].flatten()) for member, kept in enumerate(self.latents)]
        ).view(len(self.latents), rows, NEAR, -1)
        mean = found.mean(2)
        return found.flatten(2), mean, (found - mean.unsqueeze(2)).square_().sum((2, 3)) / NEAR

    def context_distance(self, context: Tensor) -> Tensor:
        """Squared distance [view, row, kept record] of contexts [row, column], as the search weighs it."""
        _, kept, columns = self.records.shape
        known = self.keys[:, columns:-1, :kept] / -2
        weighed = _weighed_context(self.records, context).unsqueeze(3)
        return (known.unsqueeze(1) - weighed).square().sum(2)

    def to(self, device: torch.device) -> "Memory":
        """Copies the memory to `device`."""
        return Memory(self.records.to(device), self.latents.to(device), self.keys.to(device))

    @staticmethod
    def _search(query: Tensor, keys: Tensor, own: Tensor | None) -> Tensor:
        """Exact: the least three are in the three chunks with the least minima."""
        distances = _distances(query, keys)
        rows, slots = distances.shape
        if own is not None:
            known = torch.nonzero(own >= 0).flatten()
            distances[known, own[known]] = NOWHERE
        chunks = slots // CHUNK
        least = distances.view(rows, CHUNK, chunks).amin(1)
        best = least_positions(least, min(NEAR, chunks))
        offsets = torch.arange(0, slots, chunks, device=query.device)
        candidates = (best.unsqueeze(1) + offsets.unsqueeze(1)).flatten(1)
        order = least_positions(distances.gather(1, candidates), NEAR)
        return candidates.gather(1, order)


def least_positions(values: Tensor, count: int) -> Tensor:
    """Positions [row, count] of the least values [row, value], the least first; overwrites those values.

    Minimum after minimum: these are vectorised, selection is not.
    """
    found = []
    for _ in range(count):
        found.append(values.min(1, keepdim=True).indices)
        values.scatter_(1, found[-1], NOWHERE)
    return torch.cat(found, 1)


@lru_cache(maxsize=4)
def _buffer(rows: int, slots: int, device: torch.device, thread: int) -> Tensor:  # noqa: ARG001 - a thread's own
    with torch.inference_mode(mode=False):
        return torch.empty(rows, slots, device=device, dtype=torch.float32)


def _distances(query: Tensor, keys: Tensor) -> Tensor:
    """Distances [row, slot]; a tile's are written into the same buffer, for fresh pages cost more than the product."""
    if len(query) > BUFFER_ROWS:
        return torch.mm(query, keys)
    buffer = _buffer(len(query), keys.shape[1], keys.device, get_ident())
    with torch.no_grad():
        return torch.mm(query, keys, out=buffer)


def capacity(wanted: int, available: int, views: int, columns: int) -> int:
    """Records to keep: as many as wanted and available, fewer when they are very wide."""
    return min(wanted, available, max(LEAF, BUDGET // (4 * views * columns)))


def selected(records: Tensor, context: Tensor, count: int) -> Tensor:
    """Positions [count], ascending, of the records [view, record, column] to keep of those in random order.

    Half are the first; the others are drawn with a probability that rises with the square of the
    distance from those already kept (Arthur and Vassilvitskii 2007): what is common is repeated, what
    is rare must not be lost.
    """
    available = records.shape[1]
    if count >= available:
        return torch.arange(available)
    rng = torch.Generator().manual_seed(count)
    known = torch.cat(tuple(torch.cat((records, _weighed_context(records, context)), 2)), 1)
    chosen = torch.arange(count // 2)
    unlike = _least_distances(known, known[chosen])
    for share in range(ROUNDS, 0, -1):
        unlike[chosen] = 0
        drawn = torch.multinomial(unlike + LEAST_CHANCE, (count - len(chosen)) // share, generator=rng)
        chosen = torch.unique(torch.cat((chosen, drawn)))
        unlike = torch.minimum(unlike, _least_distances(known, known[drawn]))
    return _filled_up(chosen, count, available)


def _filled_up(chosen: Tensor, count: int, available: int) -> Tensor:
    """Fills `chosen` up to so many positions, ascending, with the first of the others."""
    others = torch.ones(available, dtype=torch.bool)
    others[chosen] = False
    return torch.cat((chosen, torch.nonzero(others).flatten()[: count - len(chosen)])).sort().values


def _least_distances(queries: Tensor, known: Tensor) -> Tensor:
    """Squared distance [query] to the nearest of `known` [record, column]."""
    sizes = known.square().sum(1)
    blocks = (queries[first : first + BLOCK] for first in range(0, len(queries), BLOCK))
    return torch.cat([(sizes - 2 * rows @ known.T).amin(1) + rows.square().sum(1) for rows in blocks]).clamp_min(0)


def _weighed_context(records: Tensor, context: Tensor) -> Tensor:
    """The context [view, row, column], weighed so that another context is farther than another record."""
    weighed = context * sqrt(records.shape[2])
    return weighed.expand(len(records), -1, -1)
