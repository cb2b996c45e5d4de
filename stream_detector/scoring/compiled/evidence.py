"""What the discriminators are shown, and what they say."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import math

import numpy as np

from stream_detector.gan.memory import NEAR
from stream_detector.scoring.compiled.layers import features
from stream_detector.scoring.compiled.logarithm import log
from stream_detector.scoring.compiled.numbers import FLOOR, ONE, THIRD, compiled
from stream_detector.scoring.compiled.products import multiply_triangle, product, square_sum

__all__ = ["judge", "show_evidence"]


@compiled
def show_evidence(judges, kept, records, view, first, room, nearness, rows):
    """What the discriminators are shown into room.inputs, and half the log distance of the nearest record."""
    width, others = records.views.shape[2], records.context.shape[1]
    floor, centre, share = judges.floor[view], judges.centre[view], ONE / np.float32(width)
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
        for place in range(NEAR):
            inputs[4 * width + place] = square_sum(apart, place, apart.shape[1]) * share + floor
        inputs[4 * width + NEAR] = square_sum(room.residual, row, apart.shape[1]) * share + floor
    for place in range(4 * width, 4 * width + NEAR + 1):
        for row in range(rows):
            room.inputs[row, place] = np.float32(log(np.float64(room.inputs[row, place])) / 2) - centre
    for row in range(rows):
        nearness[row] = room.inputs[row, 4 * width]


@compiled
def _tame(inputs, scale):
    for column in range(len(scale)):
        value = inputs[column] * scale[column]
        inputs[column] = value / math.sqrt(abs(value) + ONE)


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
            room.sums[row] = square_sum(room.judged, row, len(mean))
        for row in range(rows):
            distances[row] += log(np.float64(room.sums[row]) + FLOOR) / members
