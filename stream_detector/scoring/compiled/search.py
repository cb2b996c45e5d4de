"""The search for latents: as `inversion.refine`, row by row."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np

from stream_detector.scoring.compiled.layers import forward, pull
from stream_detector.scoring.compiled.logarithm import log
from stream_detector.scoring.compiled.numbers import FLOOR, NOTHING, NOWHERE, ONE, compiled, dot, square
from stream_detector.scoring.compiled.products import multiply
from stream_detector.scoring.inversion import CONJUGATE, SHORTER

__all__ = ["judge_latent", "search"]

SHRINK = np.float32(SHORTER)


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
def search(pair, records, view, first, count, steps, room, refined):
    """Mean log misfit of the chosen rows' latents after at most so many steps into `refined`."""
    members, width = len(pair.reach) // len(records.views), records.views.shape[2]
    for place in range(count):
        row = room.chosen[place]
        refined[row] = 0.0
        for column in range(width):
            room.searched[0, place, column] = records.views[view, first + row, column]
            room.searched[1, place, column] = records.present[first + row, column]
    for at in range(members):
        for place in range(count):
            row = room.chosen[place]
            room.figures[0, place] = room.scatter[at, row]
            for unit in range(room.latents.shape[2]):
                room.tried[0, place, unit] = room.tried[1, place, unit] = room.latents[at, row, unit]
            for unit in range(pair.latent):
                room.tried[2, place, unit] = room.anchors[at, row, unit]
        _refine(pair, view * members + at, width, steps, room, count)
        for place in range(count):
            refined[room.chosen[place]] += log(np.float64(room.figures[2, place]) + FLOOR * width) / members


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
            figures[3, row] *= ONE if fresh[row] else SHRINK


@compiled
def _weigh(pair, member, width, room, rows):
    """Judges the trial latents. Where they are the best so far they are kept, with their weighted residuals."""
    latents, trial, anchors = room.tried[0], room.tried[1], room.tried[2]
    records, present, heeded, weight = room.searched[0], room.searched[1], room.searched[2], room.searched[3]
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
                weight[row, column] = present[row, column] / (part * part)
                heeded[row, column] = left * weight[row, column]


@compiled
def _solve(pair, member, room, rows):
    """Where the latent is new: conjugate gradients on (A W A' + prior) direction = pulled - prior (z - anchor), A being
    the generator's linear part.
    """
    units, columns = pair.latent, room.searched.shape[2]
    linear, back, pulled = pair.generator.skip[member, :units], pair.generator.skip_back[member], room.pulled
    latents, anchors, direction = room.tried[0], room.tried[2], room.tried[3]
    left, along, size, weight = room.tried[4], room.tried[5], room.figures[4], room.searched[3]
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
                room.spare[row, column] *= weight[row, column]
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
