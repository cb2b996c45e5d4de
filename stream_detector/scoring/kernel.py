"""The raw scores on a processor: one compiled call a batch, without Python's lock.

The same arithmetic as `look`, `refine` and `judge`, which serve other devices: nearest kept records,
encoder and generator, the search beyond the screen, evidence, discriminators. Every record is
computed for itself, in an order of operations that does not depend on the others, so a record scores
the same to the bit alone, in any batch and in any order.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stream_detector.gan.evidence import MAGNIFIED
from stream_detector.gan.networks import LEAK
from stream_detector.scoring.discrimination import SMALL
from stream_detector.scoring.inversion import CONJUGATE, SHORTER
from stream_detector.scoring.memory import NEAR
from stream_detector.scoring.products import CLASSES, ROWS, WIDTH, least_by_class, multiply, multiply_blocks

__all__ = ["Judges", "Kept", "Layers", "Pair", "Records", "Room", "score"]

Array = NDArray[np.float32]
TILE = 40 * ROWS  # rows worked on at once: their activations stay in the cache
NOWHERE, FARTHER = np.float32(1e30), np.float32(2e30)
NOTHING, ONE, MAGNIFICATION = np.float32(0), np.float32(1), np.float32(MAGNIFIED)
SLOPE, SHRINK, THIRD = np.float32(LEAK), np.float32(SHORTER), np.float32(1 / NEAR)
FLOOR = 1e-6  # of a misfit a column, or of a distance, before its logarithm

compiled: Any = njit(nogil=True, cache=True, error_model="numpy")


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


class Pair(NamedTuple):
    """Encoder and generator, the width of their latent, `reach` [member, column], and the prior's weight."""

    encoder: Layers
    generator: Layers
    latent: int
    reach: Array
    prior: np.float32


class Kept(NamedTuple):
    """The memory: `keys` [view, block of slots, column, slot], `records` [view, record, column], `latents`
    [member, record, latent].
    """

    keys: Array
    records: Array
    latents: Array


class Judges(NamedTuple):
    """The discriminators' layers, `mean` [member, hidden] and `whitening` [member, hidden, hidden] of their
    features, and what evidence is measured in: `spread` [view, column], `floor` and `centre` [view].
    """

    layers: Layers
    mean: Array
    whitening: Array
    spread: Array
    floor: Array
    centre: Array


class Records(NamedTuple):
    """Normalised records: `views` [view, record, column], `context` and `present` [record, column], the kept
    records they are themselves [record], -1 for none, and `pull`, the weight of context in a distance.
    """

    views: Array
    context: Array
    present: Array
    own: NDArray[np.int64]
    pull: np.float32


class Room(NamedTuple):
    """Where a tile's values lie in between: [row, …], with the layer or the member before it."""

    hidden: Array  # [layer, row, unit]
    pulled: Array  # [3, row, unit]
    wide: Array  # the record beside its context
    spare: Array
    made: Array
    latents: Array  # [member, row, unit], context beside them
    anchors: Array  # [member, row, unit]
    scatter: Array  # [member, row]
    query: Array
    distances: Array  # [ROWS, slot]
    least: Array  # [class]
    nearest: NDArray[np.int64]  # [row, NEAR]
    inputs: Array
    residual: Array
    judged: Array
    searched: Array  # [4, row, column]: records, present, residual heeded, weight
    tried: Array  # [6, row, unit]: latents, trial, anchors, direction, left, along
    figures: Array  # [5, row]: scatter, objective, misfit, length, size
    chosen: NDArray[np.int64]  # [row]
    fresh: NDArray[np.bool_]  # [row]

    @classmethod
    def of(cls, pair: Pair, kept: Kept, judges: Judges, columns: int, others: int) -> "Room":
        """For so many judged and context columns."""
        networks = (pair.encoder, pair.generator, judges.layers)
        hidden = max(
            part.shape[2] for network in networks for part in (network.first, network.first_back, network.last)
        )
        depth = len(pair.encoder.middle) + 1
        members, made = len(pair.reach), max(pair.encoder.skip.shape[2], pair.generator.skip.shape[2])
        shapes: tuple[tuple[int, ...], ...] = (
            (depth, TILE, hidden),
            (3, TILE, hidden),
            (TILE, columns + others),
            (TILE, made),
            (TILE, made),
            (members, TILE, pair.latent + others),
            (members, TILE, pair.latent),
            (members, TILE),
            (TILE, columns + others + 1),
            (ROWS, kept.keys.shape[1] * WIDTH),
            (CLASSES,),
        )
        nearest = np.zeros((TILE, NEAR), np.int64)
        later: tuple[tuple[int, ...], ...] = (
            (TILE, 4 * columns + 4 + others),
            (TILE, columns),
            (TILE, hidden),
            (4, TILE, pair.generator.skip.shape[2]),
            (6, TILE, pair.latent + others),
            (5, TILE),
        )
        early, late = ([np.zeros(shape, np.float32) for shape in group] for group in (shapes, later))
        return cls._make((*early, nearest, *late, np.zeros(TILE, np.int64), np.zeros(TILE, np.bool_)))


@compiled
def _activate(y, bias, before, rows, add):
    """Leaky rectifier of y + bias; what was before is added where a network is residual."""
    for row in range(rows):
        for column in range(len(bias)):
            value = y[row, column] + bias[column]
            value = value if value > NOTHING else SLOPE * value
            y[row, column] = value + before[row, column] if add else value


@compiled
def _features(net, member, x, hidden, rows):
    """Every hidden layer into `hidden`; the number of the last one."""
    multiply(x, net.first[member], hidden[0], rows)
    _activate(hidden[0], net.first_bias[member], hidden[0], rows, False)
    for layer in range(len(net.middle)):
        multiply(hidden[layer], net.middle[layer, member], hidden[layer + 1], rows)
        _activate(hidden[layer + 1], net.middle_bias[layer, member], hidden[layer], rows, net.residual)
    return len(net.middle)


@compiled
def _forward(net, member, x, room, y, rows):
    """The network's outputs into `y`, its hidden layers into the room."""
    last = _features(net, member, x, room.hidden, rows)
    multiply(room.hidden[last], net.last[member], y, rows)
    multiply(x, net.skip[member], room.spare, rows)
    bias = net.last_bias[member]
    for row in range(rows):
        for column in range(len(bias)):
            y[row, column] += bias[column] + room.spare[row, column]


@compiled
def _pull(net, member, y, room, rows):
    """The transposed derivative times `y`, by the inputs, into room.pulled[0]; after `_forward` there."""
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


@compiled
def _find_nearest(kept, view, own, first, room, rows):
    """The nearest kept records' slots into room.nearest, the nearest first."""
    distances = room.distances.reshape(len(room.distances), room.distances.shape[1] // CLASSES, CLASSES)
    for start in range(0, rows, ROWS):
        group = min(ROWS, rows - start)
        multiply_blocks(room.query, kept.keys[view], room.distances, start, group)
        for row in range(group):
            if own[first + start + row] >= 0:
                room.distances[row, own[first + start + row]] = NOWHERE
            _choose(distances[row], room.least, room.nearest[start + row])


@compiled
def _choose(distances, least, found):
    """The slots of the three least distances [slot / CLASSES, class]: they are in the classes with the least minima."""
    least_by_class(distances, least)
    best, classes = (FARTHER, FARTHER, FARTHER), (0, 0, 0)
    for column in range(CLASSES):
        if least[column] < best[2]:
            best, classes = _inserted(best, classes, least[column], column)
    best, slots = (FARTHER, FARTHER, FARTHER), (0, 0, 0)
    for column in classes:
        for block in range(len(distances)):
            if distances[block, column] <= best[2]:
                best, slots = _inserted(best, slots, distances[block, column], block * CLASSES + column)
    found[0], found[1], found[2] = slots


@compiled
def _inserted(best, places, value, place):
    """The least three with their places, ordered; of equal values the lower place first."""
    if value < best[2] or (value == best[2] and place < places[2]):
        if value < best[0] or (value == best[0] and place < places[0]):
            return (value, best[0], best[1]), (place, places[0], places[1])
        if value < best[1] or (value == best[1] and place < places[1]):
            return (best[0], value, best[1]), (places[0], place, places[1])
        return (best[0], best[1], value), (places[0], places[1], place)
    return best, places


@compiled
def _set_prior(kept, member, latent, room, at, rows):
    """Mean of the neighbours' latents, and their mean squared distance from it."""
    known = kept.latents[member]
    for row in range(rows):
        near = room.nearest[row]
        a, b, c = near[0], near[1], near[2]
        apart = NOTHING
        for unit in range(latent):
            mean = (known[a, unit] + known[b, unit] + known[c, unit]) * THIRD
            room.anchors[at, row, unit] = mean
            apart += _square(known[a, unit] - mean) + _square(known[b, unit] - mean) + _square(known[c, unit] - mean)
        room.scatter[at, row] = apart * THIRD


@compiled
def _judge_latent(pair, member, width, record, present, made, latent, anchor, scatter):
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
        apart += _square(latent[unit] - anchor[unit])
    apart = pair.prior * (apart + scatter)
    return objective + apart, misfit + apart


@compiled
def _show(records, view, first, room, rows):
    """The rows beside a context into room.wide, and the queries of the memory."""
    width, others = records.views.shape[2], records.context.shape[1]
    for row in range(rows):
        for column in range(width):
            value = records.views[view, first + row, column]
            room.wide[row, column] = room.query[row, column] = value
        for column in range(others):
            value = records.context[first + row, column]
            room.wide[row, width + column] = value
            room.query[row, width + column] = value * records.pull
        room.query[row, width + others] = ONE


@compiled
def _start(pair, kept, records, view, first, room, starts, rows):
    """The encoder's latents; their mean log misfit into `starts`, the mean residual into room.residual."""
    members = len(pair.reach) // len(records.views)
    width, others = records.views.shape[2], records.context.shape[1]
    for row in range(rows):
        for column in range(width):
            room.residual[row, column] = NOTHING
    for at in range(members):
        member = view * members + at
        _set_prior(kept, member, pair.latent, room, at, rows)
        _forward(pair.encoder, member, room.wide, room, room.made, rows)
        latents = room.latents[at]
        for row in range(rows):
            for unit in range(pair.latent):
                latents[row, unit] = room.made[row, unit]
            for column in range(others):
                latents[row, pair.latent + column] = records.context[first + row, column]
        _forward(pair.generator, member, latents, room, room.made, rows)
        for row in range(rows):
            record, present = records.views[view, first + row], records.present[first + row]
            made = room.made[row]
            for column in range(width):
                room.residual[row, column] += (record[column] - made[column]) * present[column] / np.float32(members)
            anchor, scatter = room.anchors[at, row], room.scatter[at, row]
            _, misfit = _judge_latent(pair, member, width, record, present, made, latents[row], anchor, scatter)
            starts[row] += math.log(np.float64(misfit) + FLOOR * width) / members


@compiled
def _evidence(judges, kept, records, view, first, room, nearness, rows):
    """What the discriminators are shown into room.inputs, and half the log distance of the nearest record."""
    width, others = records.views.shape[2], records.context.shape[1]
    spread, floor, centre = judges.spread[view], judges.floor[view], judges.centre[view]
    for row in range(rows):
        near, known = room.nearest[row], kept.records[view]
        a, b, c = known[near[0]], known[near[1]], known[near[2]]
        record, present = records.views[view, first + row], records.present[first + row]
        inputs, left = room.inputs[row], room.residual[row]
        for column in range(width):
            one = (record[column] - a[column]) * present[column]
            two = (record[column] - b[column]) * present[column]
            three = (record[column] - c[column]) * present[column]
            inputs[column] = _tamed(record[column] / spread[column])
            inputs[width + column] = _tamed(MAGNIFICATION * one / spread[column])
            inputs[2 * width + column] = _tamed(MAGNIFICATION * (one + two + three) * THIRD / spread[column])
            inputs[3 * width + column] = _tamed(MAGNIFICATION * left[column] / spread[column])
        for column in range(others):
            inputs[4 * width + 4 + column] = records.context[first + row, column]
        _set_distances(inputs, 4 * width, record, present, a, b, c, left, floor, centre)
        nearness[row] = inputs[4 * width]


@compiled
def _tamed(value):
    return value / math.sqrt(abs(value) + ONE)


@compiled
def _set_distances(inputs, start, record, present, a, b, c, left, floor, centre):
    """Half the log mean squared displacements from three records, and of the residual."""
    one = two = three = rest = NOTHING
    for column in range(len(record)):
        one += _square((record[column] - a[column]) * present[column])
        two += _square((record[column] - b[column]) * present[column])
        three += _square((record[column] - c[column]) * present[column])
        rest += _square(left[column])
    share = ONE / np.float32(len(record))
    inputs[start] = np.float32(math.log(np.float64(one * share + floor)) / 2) - centre
    inputs[start + 1] = np.float32(math.log(np.float64(two * share + floor)) / 2) - centre
    inputs[start + 2] = np.float32(math.log(np.float64(three * share + floor)) / 2) - centre
    inputs[start + 3] = np.float32(math.log(np.float64(rest * share + floor)) / 2) - centre


@compiled
def _judge(judges, view, views, room, distances, verdicts, rows):
    """Mean log distance in the discriminators' features, and their mean verdict."""
    members = len(judges.mean) // views
    net = judges.layers
    for at in range(members):
        member = view * members + at
        hidden = room.hidden[_features(net, member, room.inputs, room.hidden, rows)]
        multiply(hidden, net.last[member], room.judged, rows)
        bias, mean = net.last_bias[member], judges.mean[member]
        for row in range(rows):
            for level in range(SMALL):
                verdicts[row] += (room.judged[row, level] + bias[level]) / np.float64(SMALL * members)
            for column in range(len(mean)):
                hidden[row, column] -= mean[column]
        multiply(hidden, judges.whitening[member], room.judged, rows)
        for row in range(rows):
            far = NOTHING
            for column in range(len(mean)):
                far += _square(room.judged[row, column])
            distances[row] += math.log(np.float64(far) + FLOOR) / members


@compiled
def _choose_searched(starts, least, room, rows):
    """The rows whose start lies beyond the screen into room.chosen; how many."""
    count = 0
    for row in range(rows):
        if starts[row] > least:
            room.chosen[count] = row
            count += 1
    return count


@compiled
def _search(pair, records, view, first, count, steps, room, refined):
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
            refined[room.chosen[place]] += math.log(np.float64(room.figures[2, place]) + FLOOR * width) / members


@compiled
def _refine(pair, member, width, steps, room, rows):
    """As `inversion.refine` for one member: misfits of the best latents into room.figures."""
    latents, trial, direction = room.tried[0], room.tried[1], room.tried[3]
    figures, fresh = room.figures, room.fresh
    for row in range(rows):
        figures[1, row], figures[3, row] = NOWHERE, ONE
    _weigh(pair, member, width, room, rows)
    for _ in range(steps):
        _pull(pair.generator, member, room.searched[2], room, rows)
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
    _forward(pair.generator, member, trial, room, room.made, rows)
    for row in range(rows):
        objective, misfit = _judge_latent(
            pair, member, width, records[row], present[row], room.made[row], trial[row], anchors[row], figures[0, row]
        )
        room.fresh[row] = objective < figures[1, row]
        if room.fresh[row]:
            figures[1, row], figures[2, row] = objective, misfit
            for unit in range(pair.latent):
                latents[row, unit] = trial[row, unit]
            for column in range(width):
                left = (records[row, column] - room.made[row, column]) * present[row, column]
                part = ONE + _square(left / reach[column])
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
        size[row] = _dot(left[row], left[row], units)
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
            bend = _dot(along[row], curved, units)
            share = size[row] / bend if bend > NOTHING else NOTHING
            for unit in range(units):
                direction[row, unit] += share * along[row, unit] if room.fresh[row] else NOTHING
                left[row, unit] -= share * curved[unit]
            new = _dot(left[row], left[row], units)
            ratio = new / size[row] if size[row] > NOTHING else NOTHING
            size[row] = new
            for unit in range(units):
                along[row, unit] = left[row, unit] + ratio * along[row, unit]


@compiled
def _square(value):
    return value * value


@compiled
def _dot(a, b, units):
    total = NOTHING
    for unit in range(units):
        total += a[unit] * b[unit]
    return total


@compiled
def score(pair, kept, judges, records, room, screen, steps, parts):
    """Raw scores into `parts` [part, view, record], float64, zero at first: mean log misfit of the encoder's start; the
    same after the search where the start lies beyond `screen` [view]; nearness; mean log distance in the
    discriminators' features; mean verdict.
    """
    views, count = records.views.shape[0], records.views.shape[1]
    for first in range(0, count, TILE):
        rows = min(TILE, count - first)
        for view in range(views):
            tile = parts[:, view, first : first + rows]
            starts, refined, nearness, distances, verdicts = tile[0], tile[1], tile[2], tile[3], tile[4]
            _show(records, view, first, room, rows)
            _find_nearest(kept, view, records.own, first, room, rows)
            _start(pair, kept, records, view, first, room, starts, rows)
            _evidence(judges, kept, records, view, first, room, nearness, rows)
            _judge(judges, view, views, room, distances, verdicts, rows)
            for row in range(rows):
                refined[row] = starts[row]
            chosen = _choose_searched(starts, screen[view], room, rows) if steps else 0
            if chosen:
                _search(pair, records, view, first, chosen, steps, room, refined)
