"""The nearest kept records without shapes that depend on data, as a graph needs it."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from stream_detector.gan.memory import CHUNK, LEAF, NEAR, NOWHERE, Memory

__all__ = ["StaticMemory"]


class StaticMemory(Memory):
    """As `Memory`, with slots beyond the kept records that are nobody's; `own` is always told, and is the first
    of those for records that are not kept.
    """

    __slots__ = ()

    @classmethod
    def like(cls, memory: Memory) -> "StaticMemory":
        """With the same records."""
        keys = pad(memory.keys, (0, LEAF))
        keys[:, -1, -LEAF:] = NOWHERE
        return cls(memory.records, memory.latents, keys.contiguous())

    @property
    def nobody(self) -> int:
        """The slot that is nobody's."""
        return self.keys.shape[2] - LEAF

    @staticmethod
    def _search(query: Tensor, keys: Tensor, own: Tensor | None) -> Tensor:
        """Exact: the least three are in the three chunks with the least minima."""
        assert own is not None
        distances = torch.mm(query, keys).scatter_(1, own.unsqueeze(1), NOWHERE)
        rows, slots = distances.shape
        chunks = slots // CHUNK
        best = _least(distances.view(rows, CHUNK, chunks).amin(1), NEAR)
        offsets = torch.arange(0, slots, chunks, device=query.device)
        candidates = (best.unsqueeze(1) + offsets.unsqueeze(1)).flatten(1)
        return candidates.gather(1, _least(distances.gather(1, candidates), NEAR))


def _least(values: Tensor, count: int) -> Tensor:
    """Positions [row, count] of the least values [row, value], the least first; overwrites those values."""
    found = []
    for _ in range(count):
        found.append(values.min(1, keepdim=True).indices)
        values.scatter_(1, found[-1], NOWHERE)
    return torch.cat(found, 1)
