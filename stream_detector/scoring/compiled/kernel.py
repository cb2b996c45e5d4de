"""The raw scores on a processor: one compiled call a batch, without Python's lock.

The tensors of `scoring.look`, `inversion` and `discrimination` are the specification, and serve other devices. Here
the same arithmetic is done a record at a time: nearest kept records, encoder and generator, the search beyond the
screen, evidence, discriminators. The order of operations does not depend on the other records, so a record scores
the same to the bit alone, in any batch and in any order.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_detector.gan.memory import NEAR
from stream_detector.gan.networks import COLUMN_INPUTS, DISTANCE_INPUTS
from stream_detector.gan.settings import InversionSettings
from stream_detector.scoring.compiled.arithmetic import ONE, THIRD, ZERO, Array, compiled, log, square
from stream_detector.scoring.compiled.expecting import expect
from stream_detector.scoring.compiled.layers import features, forward, multiply_triangle, product, square_sum
from stream_detector.scoring.compiled.layout import TILE, Autoencoder, Discriminators, Inputs, KeptRecords, Workspace
from stream_detector.scoring.compiled.nearest import find_nearest
from stream_detector.scoring.compiled.search import judge_latent, search
from stream_detector.scoring.inversion import FLOOR

__all__ = ["Kernel", "KernelScores", "judge", "score", "show_evidence", "show_records", "start_search"]

assert NEAR == 3, "show_evidence and _set_prior write three neighbours out"
assert (COLUMN_INPUTS, DISTANCE_INPUTS) == (4, NEAR + 1), "show_evidence writes the inputs out"

STARTS, REFINED, NEARNESS, DISTANCE, VERDICT = range(5)  # rows of what `score` writes, as `KernelScores` names them
FOR_NONE = np.zeros((0, 0, 0), np.float32)  # evidence that nobody asks for

Floats = NDArray[np.float64]


class KernelScores(NamedTuple):
    """Scores that the kernel computes, each float64 [view, record], in the order of its rows."""

    starts: Floats
    refined: Floats
    nearness: Floats
    distance: Floats
    verdict: Floats


@dataclass(frozen=True, slots=True)
class Kernel:
    """The networks and the memory of a scorer on the CPU, ready to be called, with a workspace for each thread."""

    autoencoder: Autoencoder
    kept: KeptRecords
    discriminators: Discriminators
    workspaces: list[Workspace] = field(default_factory=list)

    def __call__(
        self, inputs: Inputs, screen: Floats, search: InversionSettings, evidence: Array | None = None
    ) -> KernelScores:
        """Scores normalised records; the `screen` [view] says which are searched for, `search` how.

        The discriminators' evidence is written into `evidence` [view, record, input], where it is given.
        """
        views, count = inputs.views.shape[:2]
        written = np.zeros((len(KernelScores._fields), views, count))
        shown = FOR_NONE if evidence is None else evidence
        with self._workspace(inputs) as workspace:
            networks = self.autoencoder, self.kept, self.discriminators
            score(*networks, inputs, workspace, screen, search.steps, search.starts, written, shown)
        return KernelScores(*written)

    def expected(self, inputs: Inputs, residual_rms: Array) -> Array:
        """The columns that the generators expect [view, record, column]; `residual_rms` [view, column] as in `expectation.expected`."""
        found = np.zeros(inputs.views.shape, np.float32)
        with self._workspace(inputs) as workspace:
            expect(self.autoencoder, self.kept, residual_rms, inputs, workspace, found)
        return found

    @contextmanager
    def _workspace(self, inputs: Inputs) -> Iterator[Workspace]:
        """A workspace that no other thread uses meanwhile."""
        try:
            workspace = self.workspaces.pop()
        except IndexError:
            widths = inputs.views.shape[2], inputs.context.shape[1]
            workspace = Workspace.of(self.autoencoder, self.kept, self.discriminators, *widths)
        yield workspace
        self.workspaces.append(workspace)


@compiled
def score(
    autoencoder: Autoencoder,
    kept: KeptRecords,
    discriminators: Discriminators,
    inputs: Inputs,
    workspace: Workspace,
    screen: Floats,
    steps: int,
    starts: int,
    written: Floats,
    evidence: Array,
) -> None:
    """Writes raw scores into `written` [row, view, record], float64, zero at first.

    The rows are the mean log misfit of the encoder's start; the same after the search, where the start lies beyond
    `screen` [view]; the nearness; the mean log distance in the discriminators' features; and their mean verdict.
    Evidence is kept in `evidence` [view, record, input], unless that is for no records.
    """
    views, count = inputs.views.shape[0], inputs.views.shape[1]
    for first in range(0, count, TILE):
        rows = min(TILE, count - first)
        for view in range(views):
            tile = written[:, view, first : first + rows]
            begun, refined = tile[STARTS], tile[REFINED]
            show_records(inputs, view, first, workspace, rows)
            find_nearest(kept, view, inputs.own, first, workspace, rows)
            start_search(autoencoder, kept, inputs, view, first, workspace, begun, rows)
            show_evidence(discriminators, kept, inputs, view, first, workspace, tile[NEARNESS], rows)
            if evidence.shape[1]:
                _keep_evidence(workspace, evidence[view], first, rows)
            judge(discriminators, view, views, workspace, tile[DISTANCE], tile[VERDICT], rows)
            for row in range(rows):
                refined[row] = begun[row]
            chosen = _choose_searched(begun, screen[view], workspace, rows) if steps else 0
            if chosen:
                search(autoencoder, kept, inputs, view, first, chosen, steps, starts, workspace, refined)


@compiled
def show_records(inputs, view, first, workspace, rows):
    """Writes the rows beside their context into workspace.conditioned, and the memory's queries."""
    width, others = inputs.views.shape[2], inputs.context.shape[1]
    for row in range(rows):
        for column in range(width):
            value = inputs.views[view, first + row, column]
            workspace.conditioned[row, column] = workspace.query[row, column] = value
        for column in range(others):
            value = inputs.context[first + row, column]
            workspace.conditioned[row, width + column] = value
            workspace.query[row, width + column] = value * inputs.context_weight
        workspace.query[row, width + others] = ONE


@compiled
def start_search(autoencoder, kept, inputs, view, first, workspace, starts, rows):
    """Writes the encoder's latents, their mean log misfit into `starts`, and the mean residual."""
    members = len(autoencoder.robust_scale) // len(inputs.views)
    width, others = inputs.views.shape[2], inputs.context.shape[1]
    for row in range(rows):
        for column in range(width):
            workspace.residual[row, column] = ZERO
    for at in range(members):
        member = view * members + at
        _set_prior(kept, member, autoencoder.latent, workspace, at, rows)
        forward(autoencoder.encoder, member, workspace.conditioned, workspace, workspace.outputs, rows)
        latents = workspace.latents[at]
        for row in range(rows):
            for unit in range(autoencoder.latent):
                latents[row, unit] = workspace.outputs[row, unit]
            for column in range(others):
                latents[row, autoencoder.latent + column] = inputs.context[first + row, column]
        forward(autoencoder.generator, member, latents, workspace, workspace.outputs, rows)
        for row in range(rows):
            record, present = inputs.views[view, first + row], inputs.present[first + row]
            made = workspace.outputs[row]
            for column in range(width):
                left = (record[column] - made[column]) * present[column]
                workspace.residual[row, column] += left / np.float32(members)
            anchor, scatter = workspace.anchors[at, row], workspace.scatter[at, row]
            _, misfit = judge_latent(autoencoder, member, width, record, present, made, latents[row], anchor, scatter)
            workspace.squares[row] = misfit
        for row in range(rows):
            starts[row] += log(np.float64(workspace.squares[row]) + FLOOR * width) / members


@compiled
def _set_prior(kept, member, latent, workspace, at, rows):
    """Writes the mean of the neighbours' latents, and their mean squared distance from it."""
    known = kept.latents[member]
    for row in range(rows):
        near = workspace.nearest[row]
        a, b, c = near[0], near[1], near[2]
        apart = ZERO
        for unit in range(latent):
            mean = (known[a, unit] + known[b, unit] + known[c, unit]) * THIRD
            workspace.anchors[at, row, unit] = mean
            apart += square(known[a, unit] - mean) + square(known[b, unit] - mean) + square(known[c, unit] - mean)
        workspace.scatter[at, row] = apart * THIRD


@compiled
def _choose_searched(starts, least, workspace, rows):
    """Writes the rows whose start lies beyond the screen into workspace.chosen; returns how many."""
    count = 0
    for row in range(rows):
        if starts[row] > least:
            workspace.chosen[count] = row
            count += 1
    return count


@compiled
def show_evidence(discriminators, kept, inputs, view, first, workspace, nearness, rows):
    """Writes the discriminators' inputs as `gan.evidence` lays them out, and half the log distance of the nearest."""
    width, others = inputs.views.shape[2], inputs.context.shape[1]
    floor, centre, share = discriminators.floor[view], discriminators.centre[view], ONE / np.float32(width)
    distances = COLUMN_INPUTS * width  # where they begin
    for row in range(rows):
        near, known = workspace.nearest[row], kept.records[view]
        record, present = inputs.views[view, first + row], inputs.present[first + row]
        shown, apart, left = workspace.evidence[row], workspace.displacement, workspace.residual[row]
        for place in range(NEAR):
            other, moved = known[near[place]], apart[place]
            for column in range(width):
                moved[column] = (record[column] - other[column]) * present[column]
        for column in range(width):
            shown[column] = record[column]
            shown[width + column] = apart[0, column]
            shown[2 * width + column] = (apart[0, column] + apart[1, column] + apart[2, column]) * THIRD
            shown[3 * width + column] = left[column]
        _tame(shown, discriminators.scale[view])
        for column in range(others):
            shown[distances + DISTANCE_INPUTS + column] = inputs.context[first + row, column]
        for place in range(NEAR):
            shown[distances + place] = square_sum(apart, place, apart.shape[1]) * share + floor
        shown[distances + NEAR] = square_sum(workspace.residual, row, apart.shape[1]) * share + floor
    for place in range(distances, distances + DISTANCE_INPUTS):
        for row in range(rows):
            half = np.float32(log(np.float64(workspace.evidence[row, place])) / 2)
            workspace.evidence[row, place] = half - centre
    for row in range(rows):
        nearness[row] = workspace.evidence[row, distances]


@compiled
def _tame(shown, scale):
    """Scales displacements; far out they grow as a square root."""
    for column in range(len(scale)):
        value = shown[column] * scale[column]
        shown[column] = value / math.sqrt(abs(value) + ONE)


@compiled
def _keep_evidence(workspace, evidence, first, rows):
    """Copies a tile's evidence to where it outlasts the tile."""
    for row in range(rows):
        for place in range(evidence.shape[1]):
            evidence[first + row, place] = workspace.evidence[row, place]


@compiled
def judge(discriminators, view, views, workspace, distances, verdicts, rows):
    """Adds the mean log distance in the discriminators' features to `distances`, and their mean verdict to `verdicts`."""
    members = len(discriminators.mean) // views
    net = discriminators.layers
    for at in range(members):
        member = view * members + at
        hidden = workspace.hidden[features(net, member, workspace.evidence, workspace.hidden, rows)]
        verdict, mean = discriminators.verdict[member], discriminators.mean[member]
        for row in range(rows):
            verdicts[row] += np.float64(product(hidden, row, verdict) + discriminators.bias[member]) / members
            for column in range(len(mean)):
                hidden[row, column] -= mean[column]
        multiply_triangle(hidden, discriminators.whitening[member], workspace.whitened, rows)
        for row in range(rows):
            workspace.squares[row] = square_sum(workspace.whitened, row, len(mean))
        for row in range(rows):
            distances[row] += log(np.float64(workspace.squares[row]) + FLOOR) / members
