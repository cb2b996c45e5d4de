"""The kernel's search by itself, for every record."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from stream_detector.scoring.compiled import given, kernel
from stream_detector.scoring.compiled.nearest import find_nearest
from stream_detector.scoring.compiled.numbers import compiled
from stream_detector.scoring.compiled.search import search

__all__ = ["search_for_all"]


@compiled
def search_for_all(pair, kept, records, room, steps, starts, found):
    """The kernel's stages that the search needs: nearest records, the encoder's start, steps; of the one view there is."""
    count = records.views.shape[1]
    for first in range(0, count, given.TILE):
        rows = min(given.TILE, count - first)
        begun, refined = found[0, first : first + rows], found[1, first : first + rows]
        kernel._show(records, 0, first, room, rows)  # noqa: SLF001
        find_nearest(kept, 0, records.own, first, room, rows)
        kernel._start(pair, kept, records, 0, first, room, begun, rows)  # noqa: SLF001
        for row in range(rows):
            room.chosen[row] = row
        search(pair, kept, records, 0, first, rows, steps, starts, room, refined)
