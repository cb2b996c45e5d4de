"""The expectation of the generators, row by row; `expectation.expected` is its specification."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np

from stream_detector.scoring.compiled.arithmetic import FARTHER, ONE, ZERO, Array, compiled, square
from stream_detector.scoring.compiled.layers import forward
from stream_detector.scoring.compiled.layout import TILE, Autoencoder, Inputs, KeptRecords, Workspace
from stream_detector.scoring.expectation import ASKED, NEIGHBOURS, OUTLYING, ROUNDS

__all__ = ["expect"]

WIDE = np.float32(OUTLYING)


@compiled
def expect(
    autoencoder: Autoencoder, kept: KeptRecords, residual_rms: Array, inputs: Inputs, workspace: Workspace, found: Array
) -> None:
    """Writes expected columns into `found` [view, record, column]; `residual_rms` is [view, column]."""
    views, count, width = inputs.views.shape
    for first in range(0, count, TILE):
        rows = min(TILE, count - first)
        for view in range(views):
            for row in range(rows):
                _find_neighbours(kept, residual_rms[view], inputs, view, first + row, workspace)
                _show_neighbours(autoencoder, kept, inputs, view, first + row, workspace, row)
            _generate(autoencoder, views, view, width, workspace, rows)
            for _ in range(ROUNDS):
                _blend(residual_rms[view], inputs, view, first, workspace, rows)
                _encode(autoencoder, views, view, workspace, rows)
                _generate(autoencoder, views, view, width, workspace, rows)
            for row in range(rows):
                for column in range(width):
                    found[view, first + row, column] = workspace.residual[row, column]


@compiled
def _find_neighbours(kept, residual_rms, inputs, view, at, workspace):
    """Writes the kept records nearest in most columns into workspace.chosen, and their distances."""
    known, count = kept.records[view], kept.records.shape[1]
    record, present, width = inputs.views[view, at], inputs.present[at], inputs.views.shape[2]
    gaps, gauge = workspace.displacement[0], workspace.displacement[1]
    for column in range(width):
        gauge[column] = ONE / (WIDE * residual_rms[column])
    for place in range(NEIGHBOURS):
        workspace.neighbour_distances[place] = FARTHER
        workspace.chosen[place] = 0
    for other in range(0, count, max(1, count // ASKED)):
        unlike = _context_distance(kept, inputs, view, at, other)
        for column in range(width):
            apart = square((record[column] - known[other, column]) * gauge[column])
            gaps[column] = present[column] * apart / (ONE + apart)
        for column in range(width):
            unlike += gaps[column]
        if unlike < workspace.neighbour_distances[NEIGHBOURS - 1]:
            _insert(workspace, unlike, other)


@compiled
def _context_distance(kept, inputs, view, at, other):
    apart = ZERO
    for column in range(inputs.context.shape[1]):
        apart += square(kept.context[view, other, column] - inputs.context_weight * inputs.context[at, column])
    return apart


@compiled
def _insert(workspace, unlike, other):
    """Puts a nearer record in its place; the last one leaves."""
    distances, chosen = workspace.neighbour_distances, workspace.chosen
    place = NEIGHBOURS - 1
    while place > 0 and unlike < distances[place - 1]:
        distances[place], chosen[place] = distances[place - 1], chosen[place - 1]
        place -= 1
    distances[place], chosen[place] = unlike, other


@compiled
def _show_neighbours(autoencoder, kept, inputs, view, at, workspace, row):
    """Writes the neighbours' mean latents, and the context, into workspace.latents and workspace.conditioned."""
    members, width = len(autoencoder.robust_scale) // len(inputs.views), inputs.views.shape[2]
    count = 0
    for place in range(NEIGHBOURS):
        count += workspace.neighbour_distances[place] < FARTHER
    for own in range(members):
        known, latent = kept.latents[view * members + own], workspace.latents[own, row]
        for unit in range(autoencoder.latent):
            total = ZERO
            for place in range(count):
                total += known[workspace.chosen[place], unit]
            latent[unit] = total / np.float32(count)
        for column in range(inputs.context.shape[1]):
            latent[autoencoder.latent + column] = inputs.context[at, column]
    for column in range(inputs.context.shape[1]):
        workspace.conditioned[row, width + column] = inputs.context[at, column]


@compiled
def _generate(autoencoder, views, view, width, workspace, rows):
    """Writes the mean of what the generators make of workspace.latents into workspace.residual."""
    members = len(autoencoder.robust_scale) // views
    for row in range(rows):
        for column in range(width):
            workspace.residual[row, column] = ZERO
    for own in range(members):
        forward(autoencoder.generator, view * members + own, workspace.latents[own], workspace, workspace.outputs, rows)
        for row in range(rows):
            for column in range(width):
                workspace.residual[row, column] += workspace.outputs[row, column] / np.float32(members)


@compiled
def _blend(residual_rms, inputs, view, first, workspace, rows):
    """Writes the records into workspace.conditioned; the worse a column fits, the more of it is what is expected."""
    for row in range(rows):
        record, present, guess = inputs.views[view, first + row], inputs.present[first + row], workspace.residual[row]
        for column in range(len(record)):
            apart = record[column] - guess[column]
            weight = present[column] / (ONE + square(apart / (WIDE * residual_rms[column])))
            workspace.conditioned[row, column] = guess[column] + weight * apart


@compiled
def _encode(autoencoder, views, view, workspace, rows):
    """Writes the latents of workspace.conditioned into workspace.latents, whose context stays."""
    members = len(autoencoder.robust_scale) // views
    for own in range(members):
        forward(autoencoder.encoder, view * members + own, workspace.conditioned, workspace, workspace.outputs, rows)
        for row in range(rows):
            for unit in range(autoencoder.latent):
                workspace.latents[own, row, unit] = workspace.outputs[row, unit]
