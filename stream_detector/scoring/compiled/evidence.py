"""What the discriminators are shown, and what they say."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import math

import numpy as np

from stream_detector.scoring.compiled.layers import features
from stream_detector.scoring.compiled.numbers import FLOOR, NOTHING, ONE, THIRD, compiled, square
from stream_detector.scoring.compiled.products import multiply_triangle, product, square_sum
from stream_detector.scoring.memory import NEAR

__all__ = ["judge", "show_evidence"]


@compiled
def show_evidence(judges, kept, records, view, first, room, nearness, rows):
    """What the discriminators are shown into room.inputs, and half the log distance of the nearest record."""
    width, others = records.views.shape[2], records.context.shape[1]
    floor, centre = judges.floor[view], judges.centre[view]
    for row in range(rows):
        near, known = room.nearest[row], kept.records[view]
        record, present = records.views[view, first + row], records.present[first + row]
        inputs, apart, left = room.inputs[row], room.apart, room.residual[row]
        for place in range(NEAR):
            other, moved = known[near[place]], apart[place]
            for column in range(width):
                moved[column] = (record[column] - other[column]) * present[column]
        for column in range(width):
            inputs[column] = record[column]
            inputs[width + column] = apart[0, column]
            inputs[2 * width + column] = (apart[0, column] + apart[1, column] + apart[2, column]) * THIRD
            inputs[3 * width + column] = left[column]
        _tame(inputs, judges.scale[view])
        for column in range(others):
            inputs[4 * width + 4 + column] = records.context[first + row, column]
        _set_distances(inputs, 4 * width, apart, left, width, floor, centre)
        nearness[row] = inputs[4 * width]


@compiled
def _tame(inputs, scale):
    for column in range(len(scale)):
        value = inputs[column] * scale[column]
        inputs[column] = value / math.sqrt(abs(value) + ONE)


@compiled
def _set_distances(inputs, start, apart, left, width, floor, centre):
    """Half the log mean squared displacements from three records, and of the residual."""
    one = two = three = rest = NOTHING
    for column in range(width):
        one += square(apart[0, column])
        two += square(apart[1, column])
        three += square(apart[2, column])
        rest += square(left[column])
    share = ONE / np.float32(width)
    inputs[start] = np.float32(math.log(np.float64(one * share + floor)) / 2) - centre
    inputs[start + 1] = np.float32(math.log(np.float64(two * share + floor)) / 2) - centre
    inputs[start + 2] = np.float32(math.log(np.float64(three * share + floor)) / 2) - centre
    inputs[start + 3] = np.float32(math.log(np.float64(rest * share + floor)) / 2) - centre


@compiled
def judge(judges, view, views, room, distances, verdicts, rows):
    """Mean log distance in the discriminators' features, and their mean verdict."""
    members = len(judges.mean) // views
    net = judges.layers
    for at in range(members):
        member = view * members + at
        hidden = room.hidden[features(net, member, room.inputs, room.hidden, rows)]
        verdict, mean = judges.verdict[member], judges.mean[member]
        for row in range(rows):
            verdicts[row] += np.float64(product(hidden, row, verdict) + judges.lean[member]) / members
            for column in range(len(mean)):
                hidden[row, column] -= mean[column]
        multiply_triangle(hidden, judges.whitening[member], room.judged, rows)
        for row in range(rows):
            distances[row] += math.log(np.float64(square_sum(room.judged, row, len(mean))) + FLOOR) / members
