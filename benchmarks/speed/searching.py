"""The kernel's search by itself, for every record."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from stream_detector.scoring.compiled import kernel
from stream_detector.scoring.compiled.arithmetic import compiled
from stream_detector.scoring.compiled.layout import TILE
from stream_detector.scoring.compiled.nearest import find_nearest
from stream_detector.scoring.compiled.search import search

__all__ = ["search_for_all"]


@compiled
def search_for_all(autoencoder, kept, inputs, workspace, steps, starts, found):
    """The kernel's stages that the search needs: nearest records, the encoder's start, steps; of the one view there is."""
    count = inputs.views.shape[1]
    for first in range(0, count, TILE):
        rows = min(TILE, count - first)
        begun, refined = found[0, first : first + rows], found[1, first : first + rows]
        kernel.show_records(inputs, 0, first, workspace, rows)
        find_nearest(kept, 0, inputs.own, first, workspace, rows)
        kernel.start_search(autoencoder, kept, inputs, 0, first, workspace, begun, rows)
        for row in range(rows):
            workspace.chosen[row] = row
        search(autoencoder, kept, inputs, 0, first, rows, steps, starts, workspace, refined)
