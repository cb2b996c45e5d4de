"""What the compiled scorer is given, and the room it works in."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.scoring.compiled.layers import Layers
from stream_detector.scoring.compiled.numbers import Array
from stream_detector.scoring.compiled.products import CLASSES, ROWS, WIDTH
from stream_detector.scoring.memory import NEAR

__all__ = ["TILE", "Judges", "Kept", "Pair", "Records", "Room"]

TILE = 40 * ROWS  # rows worked on at once: their activations stay in the cache


class Pair(NamedTuple):
    """Encoder and generator, the width of their latent, `reach` [member, column], and the prior's weight."""

    encoder: Layers
    generator: Layers
    latent: int
    reach: Array
    prior: np.float32


class Kept(NamedTuple):
    """The memory: `keys` [view, block of slots, column, slot], `records` [view, record, column], `latents`
    [member, record, latent].
    """

    keys: Array
    records: Array
    latents: Array


class Judges(NamedTuple):
    """The discriminators' layers, `mean` [member, hidden] and `whitening` [member, hidden, hidden] of their
    features, which is upper triangular, and what evidence is measured in: `scale` [view, 4 * column], `floor`
    and `centre` [view].
    """

    layers: Layers
    mean: Array
    whitening: Array
    scale: Array
    floor: Array
    centre: Array


class Records(NamedTuple):
    """Normalised records: `views` [view, record, column], `context` and `present` [record, column], the kept
    records they are themselves [record], -1 for none, and `pull`, the weight of context in a distance.
    """

    views: Array
    context: Array
    present: Array
    own: NDArray[np.int64]
    pull: np.float32


class Room(NamedTuple):
    """Where a tile's values lie in between: [row, …], with the layer or the member before it."""

    hidden: Array  # [layer, row, unit]
    pulled: Array  # [3, row, unit]
    wide: Array  # the record beside its context
    spare: Array
    made: Array
    latents: Array  # [member, row, unit], context beside them
    anchors: Array  # [member, row, unit]
    scatter: Array  # [member, row]
    query: Array
    distances: Array  # [ROWS, slot]
    least: Array  # [class]
    nearest: NDArray[np.int64]  # [row, NEAR]
    inputs: Array
    apart: Array  # [NEAR, column]
    residual: Array
    judged: Array
    searched: Array  # [4, row, column]: records, present, residual heeded, weight
    tried: Array  # [6, row, unit]: latents, trial, anchors, direction, left, along
    figures: Array  # [5, row]: scatter, objective, misfit, length, size
    chosen: NDArray[np.int64]  # [row]
    fresh: NDArray[np.bool_]  # [row]

    @classmethod
    def of(cls, pair: Pair, kept: Kept, judges: Judges, columns: int, others: int) -> "Room":
        """For so many judged and context columns."""
        networks = (pair.encoder, pair.generator, judges.layers)
        hidden = max(
            part.shape[2] for network in networks for part in (network.first, network.first_back, network.last)
        )
        depth = len(pair.encoder.middle) + 1
        members, made = len(pair.reach), max(pair.encoder.skip.shape[2], pair.generator.skip.shape[2])
        shapes: tuple[tuple[int, ...], ...] = (
            (depth, TILE, hidden),
            (3, TILE, hidden),
            (TILE, columns + others),
            (TILE, made),
            (TILE, made),
            (members, TILE, pair.latent + others),
            (members, TILE, pair.latent),
            (members, TILE),
            (TILE, columns + others + 1),
            (ROWS, kept.keys.shape[1] * WIDTH),
            (CLASSES,),
        )
        nearest = np.zeros((TILE, NEAR), np.int64)
        later: tuple[tuple[int, ...], ...] = (
            (TILE, 4 * columns + 4 + others),
            (NEAR, columns),
            (TILE, columns),
            (TILE, hidden),
            (4, TILE, pair.generator.skip.shape[2]),
            (6, TILE, pair.latent + others),
            (5, TILE),
        )
        early, late = ([np.zeros(shape, np.float32) for shape in group] for group in (shapes, later))
        return cls._make((*early, nearest, *late, np.zeros(TILE, np.int64), np.zeros(TILE, np.bool_)))
