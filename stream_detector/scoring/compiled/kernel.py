"""The raw scores on a processor: one compiled call a batch, without Python's lock.

The same arithmetic as `look`, `invert` and `judge`, which serve other devices: nearest kept records,
encoder and generator, the search beyond the screen, evidence, discriminators. Every record is
computed for itself, in an order of operations that does not depend on the others, so a record scores
the same to the bit alone, in any batch and in any order.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np
from numpy.typing import NDArray

from stream_detector.scoring.compiled.evidence import judge, show_evidence
from stream_detector.scoring.compiled.given import TILE, Judges, Kept, Pair, Records, Room
from stream_detector.scoring.compiled.layers import forward
from stream_detector.scoring.compiled.logarithm import log
from stream_detector.scoring.compiled.nearest import find_nearest
from stream_detector.scoring.compiled.numbers import FLOOR, NOTHING, ONE, THIRD, compiled, square
from stream_detector.scoring.compiled.search import judge_latent, search

__all__ = ["score"]

Floats = NDArray[np.float64]


@compiled
def score(
    pair: Pair,
    kept: Kept,
    judges: Judges,
    records: Records,
    room: Room,
    screen: Floats,
    steps: int,
    starts: int,
    parts: Floats,
) -> None:
    """Raw scores into `parts` [part, view, record], float64, zero at first: mean log misfit of the encoder's start; the
    same after the search where the start lies beyond `screen` [view]; nearness; mean log distance in the
    discriminators' features; mean verdict.
    """
    views, count = records.views.shape[0], records.views.shape[1]
    for first in range(0, count, TILE):
        rows = min(TILE, count - first)
        for view in range(views):
            tile = parts[:, view, first : first + rows]
            begun, refined, nearness, distances, verdicts = tile[0], tile[1], tile[2], tile[3], tile[4]
            _show(records, view, first, room, rows)
            find_nearest(kept, view, records.own, first, room, rows)
            _start(pair, kept, records, view, first, room, begun, rows)
            show_evidence(judges, kept, records, view, first, room, nearness, rows)
            judge(judges, view, views, room, distances, verdicts, rows)
            for row in range(rows):
                refined[row] = begun[row]
            chosen = _choose_searched(begun, screen[view], room, rows) if steps else 0
            if chosen:
                search(pair, kept, records, view, first, chosen, steps, starts, room, refined)


@compiled
def _show(records, view, first, room, rows):
    """The rows beside a context into room.wide, and the queries of the memory."""
    width, others = records.views.shape[2], records.context.shape[1]
    for row in range(rows):
        for column in range(width):
            value = records.views[view, first + row, column]
            room.wide[row, column] = room.query[row, column] = value
        for column in range(others):
            value = records.context[first + row, column]
            room.wide[row, width + column] = value
            room.query[row, width + column] = value * records.pull
        room.query[row, width + others] = ONE


@compiled
def _start(pair, kept, records, view, first, room, starts, rows):
    """The encoder's latents; their mean log misfit into `starts`, the mean residual into room.residual."""
    members = len(pair.reach) // len(records.views)
    width, others = records.views.shape[2], records.context.shape[1]
    for row in range(rows):
        for column in range(width):
            room.residual[row, column] = NOTHING
    for at in range(members):
        member = view * members + at
        _set_prior(kept, member, pair.latent, room, at, rows)
        forward(pair.encoder, member, room.wide, room, room.made, rows)
        latents = room.latents[at]
        for row in range(rows):
            for unit in range(pair.latent):
                latents[row, unit] = room.made[row, unit]
            for column in range(others):
                latents[row, pair.latent + column] = records.context[first + row, column]
        forward(pair.generator, member, latents, room, room.made, rows)
        for row in range(rows):
            record, present = records.views[view, first + row], records.present[first + row]
            made = room.made[row]
            for column in range(width):
                room.residual[row, column] += (record[column] - made[column]) * present[column] / np.float32(members)
            anchor, scatter = room.anchors[at, row], room.scatter[at, row]
            _, misfit = judge_latent(pair, member, width, record, present, made, latents[row], anchor, scatter)
            room.sums[row] = misfit
        for row in range(rows):
            starts[row] += log(np.float64(room.sums[row]) + FLOOR * width) / members


@compiled
def _set_prior(kept, member, latent, room, at, rows):
    """Mean of the neighbours' latents, and their mean squared distance from it."""
    known = kept.latents[member]
    for row in range(rows):
        near = room.nearest[row]
        a, b, c = near[0], near[1], near[2]
        apart = NOTHING
        for unit in range(latent):
            mean = (known[a, unit] + known[b, unit] + known[c, unit]) * THIRD
            room.anchors[at, row, unit] = mean
            apart += square(known[a, unit] - mean) + square(known[b, unit] - mean) + square(known[c, unit] - mean)
        room.scatter[at, row] = apart * THIRD


@compiled
def _choose_searched(starts, least, room, rows):
    """The rows whose start lies beyond the screen into room.chosen; how many."""
    count = 0
    for row in range(rows):
        if starts[row] > least:
            room.chosen[count] = row
            count += 1
    return count
