"""The nearest kept records without shapes that depend on data, as a graph needs it."""

import torch
from torch import Tensor

from stream_detector.scoring.memory import CHUNK, NEAR, NOWHERE, Memory

__all__ = ["StaticMemory"]


class StaticMemory(Memory):
    """As `Memory`; `own` is always told, and distances have no room that other calls share."""

    __slots__ = ()

    @classmethod
    def like(cls, memory: Memory) -> "StaticMemory":
        """With the same tensors."""
        return cls(memory.records, memory.latents, memory.keys)

    @staticmethod
    def _search(query: Tensor, keys: Tensor, own: Tensor | None) -> Tensor:
        """Exact: the least three are in the three chunks with the least minima."""
        assert own is not None
        distances = torch.mm(query, keys)
        place = own.clamp_min(0).unsqueeze(1)
        left = torch.where(own.unsqueeze(1) >= 0, NOWHERE, distances.gather(1, place))
        distances.scatter_(1, place, left)
        rows, slots = distances.shape
        chunks = slots // CHUNK
        best = _least(distances.view(rows, CHUNK, chunks).amin(1), min(NEAR, chunks))
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
