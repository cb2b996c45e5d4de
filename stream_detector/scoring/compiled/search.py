"""The search for latents: as `inversion.invert`, row by row."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np

from stream_detector.scoring.compiled.given import TILE
from stream_detector.scoring.compiled.layers import forward, pull
from stream_detector.scoring.compiled.logarithm import log
from stream_detector.scoring.compiled.numbers import FLOOR, NOTHING, NOWHERE, ONE, compiled, dot, square
from stream_detector.scoring.compiled.products import multiply
from stream_detector.scoring.inversion import CONJUGATE, FLATTEST, LONGER, SHORTER

__all__ = ["judge_latent", "search"]

SHRINK, GROW, FLAT = np.float32(SHORTER), np.float32(LONGER), np.float32(FLATTEST)
THREE, FOUR = np.float32(3), np.float32(4)


@compiled
def judge_latent(pair, member, width, record, present, made, latent, anchor, scatter):
    """The objective that the search lowers and the misfit that latents are judged by, of one row."""
    objective = misfit = NOTHING
    reach = pair.reach[member]
    for column in range(width):
        left = (record[column] - made[column]) * present[column]
        squared = left * left
        misfit += squared
        objective += squared / (ONE + squared / (reach[column] * reach[column]))
    apart = NOTHING
    for unit in range(pair.latent):
        apart += square(latent[unit] - anchor[unit])
    apart = pair.prior * (apart + scatter)
    return objective + apart, misfit + apart


@compiled
def search(pair, kept, records, view, first, count, steps, starts, room, refined):
    """Mean log misfit of the chosen rows' latents after at most so many steps from each start into `refined`."""
    members, width, most = len(pair.reach) // len(records.views), records.views.shape[2], TILE // starts
    for place in range(count):
        refined[room.chosen[place]] = 0.0
    for begin in range(0, count, most):
        some = room.chosen[begin : min(begin + most, count)]
        _lay_out(records, view, first, some, starts, room)
        for at in range(members):
            member = view * members + at
            _lay_starts(pair, kept.latents[member], at, some, starts, room)
            _refine(pair, member, width, steps, room, len(some) * starts)
            for place in range(len(some)):
                misfit = np.float64(_least_misfit(room.figures, place * starts, starts))
                refined[some[place]] += log(misfit + FLOOR * width) / members


@compiled
def _lay_out(records, view, first, some, starts, room):
    """A line for every start of every chosen row: the record, and what of it is present."""
    width = records.views.shape[2]
    for line in range(len(some) * starts):
        row = first + some[line // starts]
        for column in range(width):
            room.searched[0, line, column] = records.views[view, row, column]
            room.searched[1, line, column] = records.present[row, column]


@compiled
def _lay_starts(pair, known, at, some, starts, room):
    """The lines' first latents: the encoder's, the anchor, those of the nearest records."""
    tried = room.tried
    for line in range(len(some) * starts):
        row, start = some[line // starts], line % starts
        room.figures[0, line] = room.scatter[at, row]
        for unit in range(room.latents.shape[2]):
            tried[0, line, unit] = room.latents[at, row, unit]
        for unit in range(pair.latent):
            tried[2, line, unit] = room.anchors[at, row, unit]
            if start:
                near = room.nearest[row, max(start - 2, 0)]
                tried[0, line, unit] = known[near, unit] if start > 1 else tried[2, line, unit]
        for unit in range(room.latents.shape[2]):
            tried[1, line, unit] = tried[0, line, unit]


@compiled
def _least_misfit(figures, line, starts):
    """The misfit of the start that ended at the lowest objective."""
    best = line
    for other in range(line + 1, line + starts):
        if figures[1, other] < figures[1, best]:
            best = other
    return figures[2, best]


@compiled
def _refine(pair, member, width, steps, room, rows):
    """As `inversion.refine` for one member: misfits of the best latents into room.figures."""
    latents, trial, direction = room.tried[0], room.tried[1], room.tried[3]
    figures, fresh = room.figures, room.fresh
    for row in range(rows):
        figures[1, row], figures[3, row] = NOWHERE, ONE
    _weigh(pair, member, width, room, rows)
    for _ in range(steps):
        pull(pair.generator, member, room.searched[2], room, rows)
        _solve(pair, member, room, rows)
        for row in range(rows):
            for unit in range(pair.latent):
                trial[row, unit] = latents[row, unit] + figures[3, row] * direction[row, unit]
        _weigh(pair, member, width, room, rows)
        for row in range(rows):
            figures[3, row] = min(ONE, figures[3, row] * GROW) if fresh[row] else figures[3, row] * SHRINK


@compiled
def _weigh(pair, member, width, room, rows):
    """Judges the trial latents. Where they are the best so far they are kept, with their weighted residuals and the
    columns' curvatures.
    """
    latents, trial, anchors = room.tried[0], room.tried[1], room.tried[2]
    records, present, heeded, bent = room.searched[0], room.searched[1], room.searched[2], room.searched[3]
    figures, reach = room.figures, pair.reach[member]
    forward(pair.generator, member, trial, room, room.made, rows)
    for row in range(rows):
        objective, misfit = judge_latent(
            pair, member, width, records[row], present[row], room.made[row], trial[row], anchors[row], figures[0, row]
        )
        room.fresh[row] = objective < figures[1, row]
        if room.fresh[row]:
            figures[1, row], figures[2, row] = objective, misfit
            for unit in range(pair.latent):
                latents[row, unit] = trial[row, unit]
            for column in range(width):
                left = (records[row, column] - room.made[row, column]) * present[row, column]
                part = ONE + square(left / reach[column])
                weight = present[row, column] / (part * part)
                heeded[row, column] = left * weight
                bent[row, column] = weight * max(FLAT, FOUR / part - THREE)


@compiled
def _solve(pair, member, room, rows):
    """Where the latent is new: conjugate gradients on (A C A' + prior) direction = pulled - prior (z - anchor), A being
    the generator's linear part, C the curvatures.
    """
    units, columns = pair.latent, room.searched.shape[2]
    linear, back, pulled = pair.generator.skip[member, :units], pair.generator.skip_back[member], room.pulled
    latents, anchors, direction = room.tried[0], room.tried[2], room.tried[3]
    left, along, size, bent = room.tried[4], room.tried[5], room.figures[4], room.searched[3]
    for row in range(rows):
        for unit in range(units):
            left[row, unit] = pulled[0, row, unit] - pair.prior * (latents[row, unit] - anchors[row, unit])
            along[row, unit] = left[row, unit]
            if room.fresh[row]:
                direction[row, unit] = NOTHING
        size[row] = dot(left[row], left[row], units)
    for _ in range(CONJUGATE):
        multiply(along, linear, room.spare, rows)
        for row in range(rows):
            for column in range(columns):
                room.spare[row, column] *= bent[row, column]
        multiply(room.spare, back, pulled[1], rows)
        for row in range(rows):
            curved = pulled[1, row]
            for unit in range(units):
                curved[unit] += pair.prior * along[row, unit]
            bend = dot(along[row], curved, units)
            share = size[row] / bend if bend > NOTHING else NOTHING
            for unit in range(units):
                direction[row, unit] += share * along[row, unit] if room.fresh[row] else NOTHING
                left[row, unit] -= share * curved[unit]
            new = dot(left[row], left[row], units)
            ratio = new / size[row] if size[row] > NOTHING else NOTHING
            size[row] = new
            for unit in range(units):
                along[row, unit] = left[row, unit] + ratio * along[row, unit]
