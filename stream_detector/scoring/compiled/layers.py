"""Networks: forward, and the transposed derivative by the inputs."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np

from stream_detector.gan.networks import LEAK
from stream_detector.scoring.compiled.numbers import NOTHING, ONE, Array, compiled
from stream_detector.scoring.compiled.products import multiply, multiply_from, multiply_onto

__all__ = ["Layers", "features", "forward", "pull"]

SLOPE = np.float32(LEAK)


class Layers(NamedTuple):
    """A network of every member, outputs in whole blocks and hidden layers all as wide as the widest.

    `first` [member, in, hidden], `middle` [layer, member, hidden, hidden], `last` [member, hidden, out] and
    `skip` [member, in, out] with their biases; those that end in `back` are transposed.
    """

    first: Array
    first_bias: Array
    first_back: Array
    middle: Array
    middle_bias: Array
    middle_back: Array
    last: Array
    last_bias: Array
    last_back: Array
    skip: Array
    skip_back: Array
    residual: bool


@compiled
def features(net, member, x, hidden, rows):
    """Every hidden layer into `hidden`; the number of the last one."""
    multiply_from(x, net.first[member], net.first_bias[member], SLOPE, hidden[0], rows)
    for layer in range(len(net.middle)):
        weight, bias = net.middle[layer, member], net.middle_bias[layer, member]
        multiply_from(hidden[layer], weight, bias, SLOPE, hidden[layer + 1], rows)
        if net.residual:
            _add(hidden[layer + 1], hidden[layer], len(bias), rows)
    return len(net.middle)


@compiled
def forward(net, member, x, room, y, rows):
    """The network's outputs into `y`, its hidden layers into the room."""
    last = features(net, member, x, room.hidden, rows)
    multiply_from(x, net.skip[member], net.last_bias[member], ONE, y, rows)
    multiply_onto(room.hidden[last], net.last[member], y, rows)


@compiled
def _add(y, other, width, rows):
    for row in range(rows):
        for column in range(width):
            y[row, column] += other[row, column]


@compiled
def pull(net, member, y, room, rows):
    """The transposed derivative times `y`, by the inputs, into room.pulled[0]; after `forward` there."""
    pulled, sloped, hidden = room.pulled[0], room.pulled[1], room.hidden
    width = net.first.shape[2]
    multiply(y, net.last_back[member], pulled, rows)
    for layer in range(len(net.middle), 0, -1):
        _slope(hidden[layer], hidden[layer - 1], pulled, sloped, width, rows, net.residual)
        if net.residual:
            multiply_onto(sloped, net.middle_back[layer - 1, member], pulled, rows)
        else:
            multiply(sloped, net.middle_back[layer - 1, member], pulled, rows)
    _slope(hidden[0], hidden[0], pulled, sloped, width, rows, False)
    multiply(sloped, net.first_back[member], pulled, rows)
    multiply_onto(y, net.skip_back[member], pulled, rows)


@compiled
def _slope(hidden, before, pulled, sloped, width, rows, add):
    """Derivatives through a rectifier, whose sign its result keeps; it had been added to what was before, or not."""
    for row in range(rows):
        for column in range(width):
            after = hidden[row, column] - (before[row, column] if add else NOTHING)
            sloped[row, column] = pulled[row, column] * (ONE if after > NOTHING else SLOPE)
