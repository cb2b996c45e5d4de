"""The search for latents, row by row: `inversion.invert` is its specification."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np

from stream_detector.scoring.compiled.arithmetic import NOWHERE, ONE, ZERO, compiled, dot, log, square
from stream_detector.scoring.compiled.layers import forward, multiply, vjp
from stream_detector.scoring.compiled.layout import TILE, search_state
from stream_detector.scoring.inversion import CONJUGATE, FLATTEST, FLOOR, LONGER, SHORTER

__all__ = ["judge_latent", "search"]

SHRINK, GROW, FLAT = np.float32(SHORTER), np.float32(LONGER), np.float32(FLATTEST)
THREE, FOUR = np.float32(3), np.float32(4)


@compiled
def judge_latent(autoencoder, member, width, record, present, made, latent, anchor, scatter):
    """The objective that the search lowers and the misfit that latents are judged by, of one row."""
    objective = misfit = ZERO
    scale = autoencoder.robust_scale[member]
    for column in range(width):
        left = (record[column] - made[column]) * present[column]
        squared = left * left
        misfit += squared
        objective += squared / (ONE + squared / (scale[column] * scale[column]))
    apart = ZERO
    for unit in range(autoencoder.latent):
        apart += square(latent[unit] - anchor[unit])
    apart = autoencoder.prior * (apart + scatter)
    return objective + apart, misfit + apart


@compiled
def search(autoencoder, kept, inputs, view, first, count, steps, starts, workspace, refined):
    """Writes the mean log misfit of the chosen rows' latents after at most so many steps from each start into `refined`."""
    members, width = len(autoencoder.robust_scale) // len(inputs.views), inputs.views.shape[2]
    most, state = TILE // starts, search_state(workspace)
    for place in range(count):
        refined[workspace.chosen[place]] = 0.0
    for begin in range(0, count, most):
        some = workspace.chosen[begin : min(begin + most, count)]
        _lay_out(inputs, view, first, some, starts, state)
        for at in range(members):
            member = view * members + at
            _lay_starts(autoencoder, kept.latents[member], at, some, starts, workspace)
            _refine(autoencoder, member, width, steps, workspace, len(some) * starts)
            for place in range(len(some)):
                misfit = np.float64(_least_misfit(state, place * starts, starts))
                refined[some[place]] += log(misfit + FLOOR * width) / members


@compiled
def _lay_out(inputs, view, first, some, starts, state):
    """Writes a line for every start of every chosen row: the record, and what of it is present."""
    width = inputs.views.shape[2]
    for line in range(len(some) * starts):
        row = first + some[line // starts]
        for column in range(width):
            state.records[line, column] = inputs.views[view, row, column]
            state.present[line, column] = inputs.present[row, column]


@compiled
def _lay_starts(autoencoder, known, at, some, starts, workspace):
    """Writes the lines' first latents: the encoder's, the anchor, those of the nearest records."""
    state = search_state(workspace)
    for line in range(len(some) * starts):
        row, start = some[line // starts], line % starts
        state.scatter[line] = workspace.scatter[at, row]
        for unit in range(workspace.latents.shape[2]):
            state.latents[line, unit] = workspace.latents[at, row, unit]
        for unit in range(autoencoder.latent):
            state.anchors[line, unit] = workspace.anchors[at, row, unit]
            if start:
                near = workspace.nearest[row, max(start - 2, 0)]
                state.latents[line, unit] = known[near, unit] if start > 1 else state.anchors[line, unit]
        for unit in range(workspace.latents.shape[2]):
            state.trial[line, unit] = state.latents[line, unit]


@compiled
def _least_misfit(state, line, starts):
    """The misfit of the start that ended at the lowest objective."""
    best = line
    for other in range(line + 1, line + starts):
        if state.objective[other] < state.objective[best]:
            best = other
    return state.misfit[best]


@compiled
def _refine(autoencoder, member, width, steps, workspace, rows):
    """Searches for one member, as `inversion.refine` does; the misfits of the best latents stay in the state."""
    state = search_state(workspace)
    latents, trial, direction = state.latents, state.trial, state.direction
    length, improved = state.length, state.improved
    for row in range(rows):
        state.objective[row], length[row] = NOWHERE, ONE
    _weigh(autoencoder, member, width, workspace, rows)
    for _ in range(steps):
        vjp(autoencoder.generator, member, state.weighted_residual, workspace, rows)
        _solve(autoencoder, member, workspace, rows)
        for row in range(rows):
            for unit in range(autoencoder.latent):
                trial[row, unit] = latents[row, unit] + length[row] * direction[row, unit]
        _weigh(autoencoder, member, width, workspace, rows)
        for row in range(rows):
            length[row] = min(ONE, length[row] * GROW) if improved[row] else length[row] * SHRINK


@compiled
def _weigh(autoencoder, member, width, workspace, rows):
    """Judges the trial latents. Where they are the best so far they are kept, with their weighted residuals and the
    columns' curvatures.
    """
    state, outputs, scale = search_state(workspace), workspace.outputs, autoencoder.robust_scale[member]
    latents, trial, anchors = state.latents, state.trial, state.anchors
    records, present = state.records, state.present
    forward(autoencoder.generator, member, trial, workspace, outputs, rows)
    for row in range(rows):
        record, there, made, scatter = records[row], present[row], outputs[row], state.scatter[row]
        objective, misfit = judge_latent(
            autoencoder, member, width, record, there, made, trial[row], anchors[row], scatter
        )
        state.improved[row] = objective < state.objective[row]
        if state.improved[row]:
            state.objective[row], state.misfit[row] = objective, misfit
            for unit in range(autoencoder.latent):
                latents[row, unit] = trial[row, unit]
            for column in range(width):
                left = (records[row, column] - outputs[row, column]) * present[row, column]
                part = ONE + square(left / scale[column])
                weight = present[row, column] / (part * part)
                state.weighted_residual[row, column] = left * weight
                state.curvature[row, column] = weight * max(FLAT, FOUR / part - THREE)


@compiled
def _solve(autoencoder, member, workspace, rows):
    """Solves for the direction where the latent is new, by conjugate gradients.

    The system is (A C A' + prior) direction = gradient - prior (z - anchor), with the generator's linear part A and
    the curvatures C.
    """
    state, generator, scratch = search_state(workspace), autoencoder.generator, workspace.scratch
    units, prior, columns = autoencoder.latent, autoencoder.prior, state.curvature.shape[1]
    linear, back = generator.skip[member, :units], generator.skip_back[member]
    gradient, product = workspace.gradient, workspace.backward
    latents, anchors, direction = state.latents, state.anchors, state.direction
    left, along, size, curvature = state.remainder, state.conjugate, state.size, state.curvature
    for row in range(rows):
        for unit in range(units):
            left[row, unit] = gradient[row, unit] - prior * (latents[row, unit] - anchors[row, unit])
            along[row, unit] = left[row, unit]
            if state.improved[row]:
                direction[row, unit] = ZERO
        size[row] = dot(left[row], left[row], units)
    for _ in range(CONJUGATE):
        multiply(along, linear, scratch, rows)
        for row in range(rows):
            for column in range(columns):
                scratch[row, column] *= curvature[row, column]
        multiply(scratch, back, product, rows)
        for row in range(rows):
            curved = product[row]
            for unit in range(units):
                curved[unit] += prior * along[row, unit]
            bend = dot(along[row], curved, units)
            share = size[row] / bend if bend > ZERO else ZERO
            for unit in range(units):
                direction[row, unit] += share * along[row, unit] if state.improved[row] else ZERO
                left[row, unit] -= share * curved[unit]
            new = dot(left[row], left[row], units)
            ratio = new / size[row] if size[row] > ZERO else ZERO
            size[row] = new
            for unit in range(units):
                along[row, unit] = left[row, unit] + ratio * along[row, unit]
