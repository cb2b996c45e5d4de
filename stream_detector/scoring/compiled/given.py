"""What the compiled scorer is given, and the room it works in."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.gan.memory import LEAF, NEAR
from stream_detector.scoring.compiled.layers import Layers
from stream_detector.scoring.compiled.numbers import Array
from stream_detector.scoring.compiled.products import LANES, ROWS, WIDTH
from stream_detector.scoring.expectation import WITNESSES

__all__ = ["TILE", "Judges", "Kept", "Pair", "Records", "Room"]

TILE = 40 * ROWS  # rows worked on at once, whole WIDTHs: their activations stay in the cache


class Pair(NamedTuple):
    """Encoder and generator, the width of their latent, `reach` [member, column], and the prior's weight."""

    encoder: Layers
    generator: Layers
    latent: int
    reach: Array
    prior: np.float32


class Kept(NamedTuple):
    """The memory: `records` [view, record, column], their `latents` [member, record, latent] and `context` [view, record,
    column] as distances weigh it; and every view's `Leaves`.
    """

    records: Array
    latents: Array
    context: Array
    keys: Array
    slots: NDArray[np.int64]
    low: Array
    high: Array
    size: Array


class Judges(NamedTuple):
    """The discriminators' layers, `mean` [member, hidden] and `whitening` [member, hidden, hidden] of their
    features, which is upper triangular, and what evidence is measured in: `scale` [view, 4 * column], `floor`
    and `centre` [view]. A verdict is `verdict` [member, hidden] times the features, and `lean` [member].
    """

    layers: Layers
    verdict: Array
    lean: Array
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
    pulled: Array  # [2, row, unit]
    wide: Array  # the record beside its context
    spare: Array
    made: Array
    latents: Array  # [member, row, unit], context beside them
    anchors: Array  # [member, row, unit]
    scatter: Array  # [member, row]
    query: Array
    turned: Array  # [column, row]
    spans: Array  # [2, row]: a query's length, the least bound
    bounds: Array  # [leaf, row]
    third: Array  # [row]: the distance of the third record found
    distances: Array  # [ROWS, LEAF]
    lanes: Array  # [LANES]
    least: Array  # [witness]
    nearest: NDArray[np.int64]  # [row, NEAR]
    found: NDArray[np.int64]  # [NEAR, row]
    ends: NDArray[np.int64]  # [leaf]
    grouped: NDArray[np.int32]  # [row], and as many of a block
    home: NDArray[np.int32]  # [row]
    inputs: Array
    apart: Array  # [NEAR, column], 0 up to whole WIDTHs, as the residual
    residual: Array
    judged: Array
    sums: Array  # [row]: what a logarithm is taken of
    searched: Array  # [4, row, column]: records, present, residual heeded, curvature
    tried: Array  # [6, row, unit]: latents, trial, anchors, direction, left, along
    figures: Array  # [5, row]: scatter, objective, misfit, length, size
    chosen: NDArray[np.int32]  # [row], and as many of a block
    fresh: NDArray[np.bool_]  # [row]

    @classmethod
    def of(cls, pair: Pair, kept: Kept, judges: Judges, columns: int, others: int) -> "Room":
        """For so many judged and context columns."""
        networks = (pair.encoder, pair.generator, judges.layers)
        hidden = max(
            part.shape[2] for network in networks for part in (network.first, network.first_back, network.last)
        )
        depth, leaves = len(pair.encoder.middle) + 1, kept.low.shape[2]
        members, made = len(pair.reach), max(pair.encoder.skip.shape[2], pair.generator.skip.shape[2])
        shapes: tuple[tuple[int, ...], ...] = (
            (depth, TILE, hidden),
            (2, TILE, hidden),
            (TILE, columns + others),
            (TILE, made),
            (TILE, made),
            (members, TILE, pair.latent + others),
            (members, TILE, pair.latent),
            (members, TILE),
            (TILE, columns + others + 1),
            (columns + others, TILE),
            (2, TILE),
            (leaves, TILE),
            (TILE,),
            (ROWS, LEAF),
            (LANES,),
            (WITNESSES,),
        )
        found = (*(np.zeros(shape, np.int64) for shape in ((TILE, NEAR), (NEAR, TILE), leaves)),)
        some = np.zeros(TILE + LANES, np.int32), np.zeros(TILE, np.int32)
        later: tuple[tuple[int, ...], ...] = (
            (TILE, 4 * columns + 4 + others),
            (NEAR, columns + -columns % WIDTH),
            (TILE, columns + -columns % WIDTH),
            (TILE, hidden),
            (TILE,),
            (4, TILE, pair.generator.skip.shape[2]),
            (6, TILE, pair.latent + others),
            (5, TILE),
        )
        early, late = ([np.zeros(shape, np.float32) for shape in group] for group in (shapes, later))
        return cls._make((*early, *found, *some, *late, np.zeros(TILE + LANES, np.int32), np.zeros(TILE, np.bool_)))
