"""Networks: forward, and the transposed derivative by the inputs."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from typing import NamedTuple

import numpy as np

from stream_detector.gan.networks import LEAK
from stream_detector.scoring.compiled.numbers import NOTHING, ONE, Array, compiled
from stream_detector.scoring.compiled.products import multiply

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
def _activate(y, bias, before, rows, add):
    """Leaky rectifier of y + bias; what was before is added where a network is residual."""
    for row in range(rows):
        for column in range(len(bias)):
            value = y[row, column] + bias[column]
            value = value if value > NOTHING else SLOPE * value
            y[row, column] = value + before[row, column] if add else value


@compiled
def features(net, member, x, hidden, rows):
    """Every hidden layer into `hidden`; the number of the last one."""
    multiply(x, net.first[member], hidden[0], rows)
    _activate(hidden[0], net.first_bias[member], hidden[0], rows, False)
    for layer in range(len(net.middle)):
        multiply(hidden[layer], net.middle[layer, member], hidden[layer + 1], rows)
        _activate(hidden[layer + 1], net.middle_bias[layer, member], hidden[layer], rows, net.residual)
    return len(net.middle)


@compiled
def forward(net, member, x, room, y, rows):
    """The network's outputs into `y`, its hidden layers into the room."""
    last = features(net, member, x, room.hidden, rows)
    multiply(room.hidden[last], net.last[member], y, rows)
    multiply(x, net.skip[member], room.spare, rows)
    bias = net.last_bias[member]
    for row in range(rows):
        for column in range(len(bias)):
            y[row, column] += bias[column] + room.spare[row, column]


@compiled
def pull(net, member, y, room, rows):
    """The transposed derivative times `y`, by the inputs, into room.pulled[0]; after `forward` there."""
    pulled, through, sloped, hidden = room.pulled[0], room.pulled[1], room.pulled[2], room.hidden
    width = net.first.shape[2]
    multiply(y, net.last_back[member], pulled, rows)
    for layer in range(len(net.middle), 0, -1):
        _slope(hidden[layer], hidden[layer - 1], pulled, sloped, width, rows, net.residual)
        multiply(sloped, net.middle_back[layer - 1, member], through, rows)
        for row in range(rows):
            for column in range(width):
                pulled[row, column] = through[row, column] + (pulled[row, column] if net.residual else NOTHING)
    _slope(hidden[0], hidden[0], pulled, sloped, width, rows, False)
    multiply(sloped, net.first_back[member], pulled, rows)
    multiply(y, net.skip_back[member], through, rows)
    for row in range(rows):
        for column in range(net.skip_back.shape[2]):
            pulled[row, column] += through[row, column]


@compiled
def _slope(hidden, before, pulled, sloped, width, rows, add):
    """Derivatives through a rectifier, whose sign its result keeps; it had been added to what was before, or not."""
    for row in range(rows):
        for column in range(width):
            after = hidden[row, column] - (before[row, column] if add else NOTHING)
            sloped[row, column] = pulled[row, column] * (ONE if after > NOTHING else SLOPE)
