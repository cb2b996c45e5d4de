"""Arrays of the compiled kernel: the scorer's tensors, laid out for its products, and its workspace."""

from math import sqrt
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from stream_detector.gan.evidence import MAGNIFIED
from stream_detector.gan.memory import LEAF, NEAR, Memory
from stream_detector.gan.networks import Gan, Network, evidence_width
from stream_detector.normaliser import Normalised
from stream_detector.scoring.compiled.arithmetic import Array, compiled
from stream_detector.scoring.compiled.layers import Layers
from stream_detector.scoring.compiled.nearest import Leaves
from stream_detector.scoring.compiled.simd import LANES, ROWS, WIDTH
from stream_detector.scoring.discrimination import SMALL, FeatureSpread
from stream_detector.scoring.expectation import NEIGHBOURS

__all__ = ["TILE", "Autoencoder", "Discriminators", "Inputs", "KeptRecords", "SearchState", "Workspace", "search_state"]

TILE = 40 * ROWS  # rows worked on at once, whole WIDTHs: their activations stay in the cache


class Autoencoder(NamedTuple):
    """Encoder and generator, the width of their latent, `robust_scale` [member, column], and the prior's weight."""

    encoder: Layers
    generator: Layers
    latent: int
    robust_scale: Array
    prior: np.float32

    @classmethod
    def of(cls, gan: Gan, robust_scale: Tensor, prior: float) -> Self:
        """Lays out networks on the CPU; `robust_scale` [member, 1, column] is as for the inversion."""
        encoder, generator = _layers(gan.encoder), _layers(gan.generator)
        return cls(encoder, generator, gan.encoder.outputs, _array(robust_scale[:, 0]), np.float32(prior))


class KeptRecords(NamedTuple):
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

    @classmethod
    def of(cls, memory: Memory) -> Self:
        """Lays out a memory on the CPU, its records in leaves."""
        records, keys = _array(memory.records), _array(memory.keys)
        count, columns = records.shape[1:]
        leaves = [Leaves.of(view, count) for view in keys]
        context = keys[:, columns:-1, :count].transpose(0, 2, 1) / np.float32(-2)
        latents, stacked = _array(memory.latents), map(np.stack, zip(*leaves, strict=True))
        return cls(records, latents, np.ascontiguousarray(context), *stacked)


class Discriminators(NamedTuple):
    """The discriminators' layers, `mean` [member, hidden] and `whitening` [member, hidden, hidden] of their
    features, which is upper triangular, and what evidence is measured in: `scale` [view, 4 * column], `floor`
    and `centre` [view]. A verdict is `verdict` [member, hidden] times the features, and `bias` [member].
    """

    layers: Layers
    verdict: Array
    bias: Array
    mean: Array
    whitening: Array
    scale: Array
    floor: Array
    centre: Array

    @classmethod
    def of(cls, gan: Gan, spread: FeatureSpread) -> Self:
        """Lays out networks and the spread of their features on the CPU."""
        gauge, last = gan.gauge, (gan.discriminator.weights[-1], gan.discriminator.biases[-1])
        scale = torch.cat((gauge.spread.reciprocal(), *[MAGNIFIED / gauge.spread] * 3), 2)
        return cls(
            layers=_layers(gan.discriminator),
            verdict=_array(last[0][:, :, :SMALL].mean(2)),
            bias=_array(last[1][:, 0, :SMALL].mean(1)),
            mean=_array(spread.mean[:, 0]),
            whitening=_array(spread.whitening),
            scale=_array(scale[:, 0]),
            floor=_array(gauge.floor[:, 0, 0]),
            centre=_array(gauge.centre[:, 0, 0]),
        )


class Inputs(NamedTuple):
    """Normalised records: `views` [view, record, column], `context` and `present` [record, column], the kept
    records they are themselves [record], -1 for none, and `context_weight`, what context weighs in a distance.
    """

    views: Array
    context: Array
    present: Array
    own: NDArray[np.int64]
    context_weight: np.float32

    @classmethod
    def of(cls, normalised: Normalised, own: NDArray[np.int64]) -> Self:
        """Lays out arrays in one order: one compiled kernel, not one for every layout of arrays."""
        parts = normalised.views, normalised.context, normalised.present
        views, context, present = map(np.ascontiguousarray, parts)
        return cls(views, context, present, own, np.float32(sqrt(views.shape[2])))


class SearchState(NamedTuple):
    """Values of a search, a line for every start of every record searched for; `search_state` finds them."""

    records: Array  # [line, column]
    present: Array
    weighted_residual: Array
    curvature: Array
    latents: Array  # [line, unit]: the best so far, context beside them, as in all below
    trial: Array
    anchors: Array
    direction: Array
    remainder: Array  # of the linear system that the direction solves
    conjugate: Array
    scatter: Array  # [line]
    objective: Array
    misfit: Array
    length: Array
    size: Array  # of the remainder, squared
    improved: NDArray[np.bool_]


class Workspace(NamedTuple):
    """Scratch buffers for the values of a tile: [row, …], with the layer or the member before it."""

    hidden: Array  # [layer, row, unit]
    gradient: Array  # [row, unit]: a vector-Jacobian product
    backward: Array  # [row, unit]: on the way to it
    conditioned: Array  # the record beside its context
    scratch: Array
    outputs: Array
    latents: Array  # [member, row, unit], context beside them
    anchors: Array  # [member, row, unit]
    scatter: Array  # [member, row]
    query: Array
    query_columns: Array  # [column, row]
    bound_start: Array  # [row]
    least_bound: Array  # [row]
    bounds: Array  # [leaf, row]
    third_distance: Array  # [row]
    distances: Array  # [ROWS, LEAF]
    lanes: Array  # [LANES]
    neighbour_distances: Array  # [neighbour]
    nearest: NDArray[np.int64]  # [row, NEAR]
    found: NDArray[np.int64]  # [NEAR, row]
    ends: NDArray[np.int64]  # [leaf]
    grouped: NDArray[np.int32]  # [row], and as many of a block
    home_leaf: NDArray[np.int32]  # [row]
    evidence: Array  # the discriminators' inputs, context beside them
    displacement: Array  # [NEAR, column], 0 up to whole WIDTHs, as the residual
    residual: Array
    whitened: Array
    squares: Array  # [row]: what a logarithm is taken of
    chosen: NDArray[np.int32]  # [row], and as many of a block
    search_columns: Array  # [4, line, column], which `search_state` names, as the three below
    search_units: Array  # [6, line, unit]
    search_lines: Array  # [5, line]
    improved: NDArray[np.bool_]  # [line]

    @classmethod
    def of(
        cls, autoencoder: Autoencoder, kept: KeptRecords, discriminators: Discriminators, columns: int, others: int
    ) -> Self:
        """Makes room for so many judged and context columns."""
        encoder, generator, judges = autoencoder.encoder, autoencoder.generator, discriminators.layers
        hidden = max(
            part.shape[2] for net in (encoder, generator, judges) for part in (net.first, net.first_back, net.last)
        )
        outputs, made = max(encoder.skip.shape[2], generator.skip.shape[2]), generator.skip.shape[2]
        members, latent, leaves = len(autoencoder.robust_scale), autoencoder.latent, kept.low.shape[2]
        filled = columns + -columns % WIDTH

        def floats(*shape: int) -> Array:
            return np.zeros(shape, np.float32)

        return cls(
            hidden=floats(len(encoder.middle) + 1, TILE, hidden),
            gradient=floats(TILE, hidden),
            backward=floats(TILE, hidden),
            conditioned=floats(TILE, columns + others),
            scratch=floats(TILE, outputs),
            outputs=floats(TILE, outputs),
            latents=floats(members, TILE, latent + others),
            anchors=floats(members, TILE, latent),
            scatter=floats(members, TILE),
            query=floats(TILE, columns + others + 1),
            query_columns=floats(columns + others, TILE),
            bound_start=floats(TILE),
            least_bound=floats(TILE),
            bounds=floats(leaves, TILE),
            third_distance=floats(TILE),
            distances=floats(ROWS, LEAF),
            lanes=floats(LANES),
            neighbour_distances=floats(NEIGHBOURS),
            nearest=np.zeros((TILE, NEAR), np.int64),
            found=np.zeros((NEAR, TILE), np.int64),
            ends=np.zeros(leaves, np.int64),
            grouped=np.zeros(TILE + LANES, np.int32),
            home_leaf=np.zeros(TILE, np.int32),
            evidence=floats(TILE, evidence_width(columns) + others),
            displacement=floats(NEAR, filled),
            residual=floats(TILE, filled),
            whitened=floats(TILE, hidden),
            squares=floats(TILE),
            chosen=np.zeros(TILE + LANES, np.int32),
            search_columns=floats(4, TILE, made),
            search_units=floats(6, TILE, latent + others),
            search_lines=floats(5, TILE),
            improved=np.zeros(TILE, np.bool_),
        )


@compiled
def search_state(workspace: Workspace) -> SearchState:
    """Names the workspace's arrays of a search: fewer arrays are handed to the kernel than it works with."""
    columns, units, lines = workspace.search_columns, workspace.search_units, workspace.search_lines
    return SearchState(
        records=columns[0],
        present=columns[1],
        weighted_residual=columns[2],
        curvature=columns[3],
        latents=units[0],
        trial=units[1],
        anchors=units[2],
        direction=units[3],
        remainder=units[4],
        conjugate=units[5],
        scatter=lines[0],
        objective=lines[1],
        misfit=lines[2],
        length=lines[3],
        size=lines[4],
        improved=workspace.improved,
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
    """The tensor with zeros added to its last dimension."""
    return pad(tensor, (0, width - tensor.shape[-1]))


def _turned(weight: Tensor) -> Tensor:
    """The weights as [member, out, in], the inputs in whole blocks."""
    return pad(weight.transpose(1, 2), (0, -weight.shape[1] % WIDTH))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
    return array
