"""What the compiled kernel is given: the scorer's tensors as arrays, laid out for its products."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from stream_detector.gan.evidence import MAGNIFIED
from stream_detector.gan.memory import Memory
from stream_detector.gan.networks import Gan, Network
from stream_detector.gan.settings import InversionSettings
from stream_detector.normaliser import Normalised
from stream_detector.scoring.compiled.expecting import expect
from stream_detector.scoring.compiled.given import Judges, Kept, Pair, Records, Room
from stream_detector.scoring.compiled.kernel import score
from stream_detector.scoring.compiled.layers import Layers
from stream_detector.scoring.compiled.leaves import Leaves
from stream_detector.scoring.compiled.products import WIDTH
from stream_detector.scoring.discrimination import SMALL, FeatureSpread

__all__ = ["Compiled"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The networks and the memory of a scorer on the CPU, ready to be called."""

    pair: Pair
    kept: Kept
    judges: Judges
    rooms: list[Room] = field(default_factory=list)

    @classmethod
    def of(cls, gan: Gan, memory: Memory, spread: FeatureSpread, reach: Tensor, prior: float) -> "Compiled":
        """From tensors on the CPU; `reach` [member, 1, column] as for the inversion."""
        pair = Pair(
            _layers(gan.encoder), _layers(gan.generator), gan.encoder.outputs, _array(reach[:, 0]), np.float32(prior)
        )
        kept = _kept(memory)
        gauge = gan.gauge
        scale = torch.cat((gauge.spread.reciprocal(), *[MAGNIFIED / gauge.spread] * 3), 2)
        judges = Judges(
            _layers(gan.discriminator),
            _array(gan.discriminator.weights[-1][:, :, :SMALL].mean(2)),
            _array(gan.discriminator.biases[-1][:, 0, :SMALL].mean(1)),
            _array(spread.mean[:, 0]),
            _array(spread.whitening),
            *map(_array, (scale[:, 0], gauge.floor[:, 0, 0], gauge.centre[:, 0, 0])),
        )
        return cls(pair, kept, judges)

    def __call__(
        self, normalised: Normalised, own: NDArray[np.int64], screen: Floats, search: InversionSettings
    ) -> Sequence[Floats]:
        """Starts, refined, nearness, distances and verdicts, each [view, record]."""
        records = _records(normalised, own)
        parts = np.zeros((5, *normalised.views.shape[:2]))
        with self._room(records) as room:
            score(self.pair, self.kept, self.judges, records, room, screen, search.steps, search.starts, parts)
        return tuple(parts)

    def expected(self, normalised: Normalised, usual: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the generators expect [view, record, column]; `usual` [view, column] as for `expectation.expected`."""
        records = _records(normalised, np.full(normalised.views.shape[1], -1))
        found = np.zeros(normalised.views.shape, np.float32)
        with self._room(records) as room:
            expect(self.pair, self.kept, usual, records, room, found)
        return found

    @contextmanager
    def _room(self, records: Records) -> Iterator[Room]:
        """A room that no other thread uses meanwhile."""
        try:
            room = self.rooms.pop()
        except IndexError:
            columns, others = records.views.shape[2], records.context.shape[1]
            room = Room.of(self.pair, self.kept, self.judges, columns, others)
        yield room
        self.rooms.append(room)


def _records(normalised: Normalised, own: NDArray[np.int64]) -> Records:
    """Arrays in one order: one compiled kernel, not one for every layout of arrays."""
    pull = np.float32(sqrt(normalised.views.shape[2]))
    parts = normalised.views, normalised.context, normalised.present
    views, context, present = map(np.ascontiguousarray, parts)
    return Records(views, context, present, own, pull)


def _kept(memory: Memory) -> Kept:
    records, keys = _array(memory.records), _array(memory.keys)
    count, columns = records.shape[1:]
    leaves = [Leaves.of(view, count) for view in keys]
    context = keys[:, columns:-1, :count].transpose(0, 2, 1) / np.float32(-2)
    return Kept(
        records, _array(memory.latents), np.ascontiguousarray(context), *map(np.stack, zip(*leaves, strict=True))
    )


def _layers(network: Network) -> Layers:
    *hidden, last = network.weights
    biases = [bias[:, 0] for bias in network.biases]
    width = max(weight.shape[2] for weight in hidden)
    first, *middle = [_widened(weight, width) for weight in hidden]
    middle = [pad(weight, (0, 0, 0, width - weight.shape[1])) for weight in middle]
    last = pad(last, (0, 0, 0, width - last.shape[1]))
    members = len(first)
    inner = torch.stack(middle) if middle else first.new_zeros(0, members, width, width)
    inner_bias = [_widened(bias, width) for bias in biases[1:-1]]
    skip = first.new_zeros(members, first.shape[1], last.shape[2]) if network.skip is None else network.skip
    return Layers(
        first=_array(first),
        first_bias=_array(_widened(biases[0], width)),
        first_back=_array(_turned(first)),
        middle=_array(inner),
        middle_bias=_array(torch.stack(inner_bias) if middle else inner[:, :, 0]),
        middle_back=_array(inner.transpose(2, 3)),
        last=_array(last),
        last_bias=_array(biases[-1]),
        last_back=_array(last.transpose(1, 2)),
        skip=_array(skip),
        skip_back=_array(_turned(skip)),
        residual=network.residual,
    )


def _widened(tensor: Tensor, width: int) -> Tensor:
    """Zeros added to the last dimension."""
    return pad(tensor, (0, width - tensor.shape[-1]))


def _turned(weight: Tensor) -> Tensor:
    """[member, out, in], the inputs in whole blocks."""
    return pad(weight.transpose(1, 2), (0, -weight.shape[1] % WIDTH))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
    return array
