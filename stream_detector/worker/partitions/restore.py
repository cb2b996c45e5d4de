"""A partition's threshold, rebuilt from its log: the scores before an offset, read backwards."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from stream_detector.scoring.threshold import Limits, RollingThreshold

__all__ = ["backwards", "earlier_scores", "restored"]

Record = TypeVar("Record")


def restored(
    limits: Limits, chunks: Iterable[Sequence[Record]], score: Callable[[Sequence[Record]], Sequence[float]]
) -> RollingThreshold:
    """The threshold that the record after the latest chunk meets; arguments as for `earlier_scores`."""
    threshold = RollingThreshold(limits)
    threshold.learn(earlier_scores(chunks, score, limits.window))
    return threshold


def backwards(records: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    """Chunks of `size` records, the latest first."""
    for end in range(len(records), 0, -size):
        yield records[max(0, end - size) : end]


def earlier_scores(
    chunks: Iterable[Sequence[Record]], score: Callable[[Sequence[Record]], Sequence[float]], count: int
) -> list[float]:
    """The last `count` scores, oldest first; fewer when the log holds fewer.

    `chunks` come latest first, in order within. Dead letters have no score, so chunks are taken
    until there are enough scores, not for a number of records.
    """
    pieces: list[Sequence[float]] = []
    missing = count
    for chunk in chunks:
        pieces.append(score(chunk))
        missing -= len(pieces[-1])
        if missing <= 0:
            break
    return [one for piece in reversed(pieces) for one in piece][-count:]
