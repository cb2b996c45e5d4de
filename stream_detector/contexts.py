"""Reads the contexts of a batch's partitions, which its records teach on the way, in the order of their logs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stream_detector.context.context_model import EntityRows
from stream_detector.context.epochs import PartitionContext
from stream_detector.context.spec import ContextSpec
from stream_detector.errors import ModelError
from stream_detector.features import Encoded
from stream_detector.model import DetectorModel, Scores
from stream_detector.records import AlertContext, Arrivals, Decoded, Message, TopicPartition
from stream_detector.records.event_times import NO_TIME
from stream_detector.scoring.calibration import six_digits
from stream_detector.scoring_pool import ScoringPool

__all__ = ["NO_CONTEXTS", "Contexts", "completed", "counted", "scored_in_context", "seen_in_log", "teach", "told"]

Contexts = Mapping[TopicPartition, PartitionContext]
NO_CONTEXTS: Contexts = {}
MS = 1_000_000  # nanoseconds


def completed(contexts: Contexts, model: DetectorModel, places: Iterable[TopicPartition]) -> Contexts:
    """The contexts, with new ones for partitions that have none."""
    assert model.context is not None
    return {place: contexts.get(place) or model.context.begin() for place in set(places)}


def counted(contexts: Contexts) -> Counter[str]:
    """What was read of all contexts together, as `PartitionContext.counts` names it."""
    return sum((context.counts for context in contexts.values()), Counter())


def scored_in_context(
    arrivals: Arrivals,
    decoded: Decoded,
    alone: Callable[[], Scores],
    model: DetectorModel,
    contexts: Contexts,
    pool: ScoringPool | None,
) -> Callable[[], Scores]:
    """Reads what contexts say of decoded records, and has it scored; the function returned waits for the scores.

    `alone` waits for the scores of the records alone. The contexts are moved forward at once.
    """
    context, view = model.context, model.view
    assert context is not None
    assert view is not None
    columns = np.empty((len(decoded.kept), len(context.projection.axes)), np.float32)
    known = np.empty(len(decoded.kept))
    for place, rows, seen in seen_in_log(arrivals, decoded, context.spec, model.context_features):
        columns[rows], known[rows] = context.read(contexts[place], seen)
    asked = columns[np.isnan(known)]
    waiting = pool.begin(view, Encoded.whole(asked)) if pool else None
    return lambda: model.joined(alone(), context.told(known, waiting().anomaly if waiting else _nines(view, asked)))


def _nines(view: DetectorModel, asked: NDArray[np.float32]) -> NDArray[np.float32]:
    """Nines [record] of columns [record, column]; by halves where all at once are too much for the device.

    The records have taught their contexts by now, so they cannot be taken again. Raises `ModelError` where one fails.
    """
    try:
        return view.score_alone(Encoded.whole(asked)).anomaly
    except Exception as error:
        if len(asked) < 2:
            raise ModelError(f"the detector of contexts fails: {error!r}; check memory and worker.device") from error
        half = len(asked) // 2
        return np.concatenate((_nines(view, asked[:half]), _nines(view, asked[half:])))


def teach(arrivals: Arrivals, decoded: Decoded, model: DetectorModel, context: PartitionContext) -> None:
    """Has decoded records of one partition teach its context; nothing is scored."""
    assert model.context is not None
    for _, _, seen in seen_in_log(arrivals, decoded, model.context.spec, model.context_features):
        context.teach(seen.offsets, seen.entities, seen.times, seen.hours, seen.values)


def told(model: DetectorModel, views: Mapping[str, np.float32], contexts: Contexts, message: Message) -> AlertContext:
    """What an alert says of its record's context, and the nines of the views."""
    assert model.context is not None
    whole = contexts[message.topic() or "", message.partition() or 0].is_whole(message.offset() or 0)
    nines = [None if np.isnan(each) else float(six_digits(np.array([each], np.float64))[0]) for each in views.values()]
    return AlertContext(model.context.spec.hash, "whole" if whole else "partial", tuple(zip(views, nines, strict=True)))


def seen_in_log(
    arrivals: Arrivals, decoded: Decoded, spec: ContextSpec, judged: NDArray[np.int64]
) -> Iterable[tuple[TopicPartition, slice, EntityRows]]:
    """The rows of each run as their partition's context sees them; `judged` are the positions of its features."""
    positions = decoded.positions
    times = np.full(len(positions), NO_TIME) if decoded.times is None else decoded.times
    entities = decoded.entities or [None] * len(positions)
    received = _received(arrivals)[positions]
    values = decoded.features[:, judged]
    for place, rows in arrivals.rows(positions):
        offsets = arrivals.offsets[positions[rows]]
        part = offsets, entities[rows], times[rows], received[rows], values[rows]
        yield place, rows, EntityRows.of(spec, *part)


def _received(messages: Sequence[Message]) -> NDArray[np.int64]:
    """Kafka's timestamps, nanoseconds since 1970, int64 [message]; beyond all event times where there is none."""
    stamps = np.array([message.timestamp()[1] for message in messages], np.int64)
    return np.where(stamps < 0, np.iinfo(np.int64).max // 2, stamps * MS)
