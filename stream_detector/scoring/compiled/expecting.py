"""What records would be, were their normal features all there is: as `expectation.expected`, row by row."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np

from stream_detector.scoring.compiled.given import TILE, Kept, Pair, Records, Room
from stream_detector.scoring.compiled.layers import forward
from stream_detector.scoring.compiled.numbers import FARTHER, NOTHING, ONE, Array, compiled, square
from stream_detector.scoring.expectation import ASKED, OUTLYING, ROUNDS, WITNESSES

__all__ = ["expect"]

REACH = np.float32(OUTLYING)


@compiled
def expect(pair: Pair, kept: Kept, usual: Array, records: Records, room: Room, found: Array) -> None:
    """Expected columns into `found` [view, record, column]; `usual` [view, column] are usual residuals."""
    views, count, width = records.views.shape
    for first in range(0, count, TILE):
        rows = min(TILE, count - first)
        for view in range(views):
            for row in range(rows):
                _find_witnesses(kept, usual[view], records, view, first + row, room)
                _show_witnesses(pair, kept, records, view, first + row, room, row)
            _generate(pair, views, view, width, room, rows)
            for _ in range(ROUNDS):
                _blend(usual[view], records, view, first, room, rows)
                _encode(pair, views, view, room, rows)
                _generate(pair, views, view, width, room, rows)
            for row in range(rows):
                for column in range(width):
                    found[view, first + row, column] = room.residual[row, column]


@compiled
def _find_witnesses(kept, usual, records, view, at, room):
    """The kept records nearest in most columns into room.chosen, their distances into room.least."""
    known, count = kept.records[view], kept.records.shape[1]
    record, present, width = records.views[view, at], records.present[at], records.views.shape[2]
    gaps, gauge = room.apart[0], room.apart[1]
    for column in range(width):
        gauge[column] = ONE / (REACH * usual[column])
    for place in range(WITNESSES):
        room.least[place] = FARTHER
        room.chosen[place] = 0
    for other in range(0, count, max(1, count // ASKED)):
        unlike = _context_distance(kept, records, view, at, other)
        for column in range(width):
            apart = square((record[column] - known[other, column]) * gauge[column])
            gaps[column] = present[column] * apart / (ONE + apart)
        for column in range(width):
            unlike += gaps[column]
        if unlike < room.least[WITNESSES - 1]:
            _insert(room, unlike, other)


@compiled
def _context_distance(kept, records, view, at, other):
    apart = NOTHING
    for column in range(records.context.shape[1]):
        apart += square(kept.context[view, other, column] - records.pull * records.context[at, column])
    return apart


@compiled
def _insert(room, unlike, other):
    """A nearer witness in its place, the last one out."""
    place = WITNESSES - 1
    while place > 0 and unlike < room.least[place - 1]:
        room.least[place], room.chosen[place] = room.least[place - 1], room.chosen[place - 1]
        place -= 1
    room.least[place], room.chosen[place] = unlike, other


@compiled
def _show_witnesses(pair, kept, records, view, at, room, row):
    """The witnesses' mean latents, and the context, into room.latents and room.wide."""
    members, width = len(pair.reach) // len(records.views), records.views.shape[2]
    count = 0
    for place in range(WITNESSES):
        count += room.least[place] < FARTHER
    for own in range(members):
        known, latent = kept.latents[view * members + own], room.latents[own, row]
        for unit in range(pair.latent):
            total = NOTHING
            for place in range(count):
                total += known[room.chosen[place], unit]
            latent[unit] = total / np.float32(count)
        for column in range(records.context.shape[1]):
            latent[pair.latent + column] = records.context[at, column]
    for column in range(records.context.shape[1]):
        room.wide[row, width + column] = records.context[at, column]


@compiled
def _generate(pair, views, view, width, room, rows):
    """Mean of what the generators make of room.latents into room.residual."""
    members = len(pair.reach) // views
    for row in range(rows):
        for column in range(width):
            room.residual[row, column] = NOTHING
    for own in range(members):
        forward(pair.generator, view * members + own, room.latents[own], room, room.made, rows)
        for row in range(rows):
            for column in range(width):
                room.residual[row, column] += room.made[row, column] / np.float32(members)


@compiled
def _blend(usual, records, view, first, room, rows):
    """The records, the more replaced by what is expected the worse a column fits, into room.wide."""
    for row in range(rows):
        record, present, guess = records.views[view, first + row], records.present[first + row], room.residual[row]
        for column in range(len(record)):
            apart = record[column] - guess[column]
            weight = present[column] / (ONE + square(apart / (REACH * usual[column])))
            room.wide[row, column] = guess[column] + weight * apart


@compiled
def _encode(pair, views, view, room, rows):
    """The latents of room.wide into room.latents, whose context stays."""
    members = len(pair.reach) // views
    for own in range(members):
        forward(pair.encoder, view * members + own, room.wide, room, room.made, rows)
        for row in range(rows):
            for unit in range(pair.latent):
                room.latents[own, row, unit] = room.made[row, unit]
