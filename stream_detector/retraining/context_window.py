"""Reads what contexts say of records in a stretch of telemetry, as serving does: by the records before them, too.

Records of [start - history, start) only teach. Messages are decoded as serving decodes them, so that a record that
serving cannot use teaches nothing here either.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stream_detector.config import Config
from stream_detector.context.context_model import EntityRows
from stream_detector.context.epochs import PartitionContext
from stream_detector.context.spec import NO_TIME, ContextSpec
from stream_detector.contexts import seen_in_log
from stream_detector.features import Encoded, FeatureSchema
from stream_detector.fitting.contextual import ContextBasis, ContextData, Matrix, Places
from stream_detector.kafka import recent
from stream_detector.kafka.formats import decoder
from stream_detector.kafka.recent import Reach
from stream_detector.model import DetectorModel
from stream_detector.records import Arrivals, Message, TopicPartition, values_of

__all__ = ["context_nines", "read_context"]

Read = Callable[[PartitionContext, EntityRows], tuple[Matrix, NDArray[np.generic]]]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Records of one partition that stand one after the other: which of those asked for each is, or -1."""

    place: TopicPartition
    which: Places
    seen: EntityRows
    columns: Matrix
    known: NDArray[np.generic]


def read_context(
    config: Config, reach: Reach, schema: FeatureSchema, basis: ContextBasis, names: Sequence[str]
) -> ContextData:
    """What contexts say of the records in `reach` that `names` (ids of alerts) tell, which come in `schema`.

    A record that serving cannot use is in no log, and has no context.
    """
    stretches = list(_Reading(config, schema, basis.spec).stretches(reach, basis.read, names))
    columns, known = np.full((len(names), _width(stretches)), np.nan, np.float32), np.zeros(len(names), np.int64)
    values = np.full((len(names), len(basis.spec.features)), np.nan)
    whose, hours = np.full(len(names), None, np.object_), np.full(len(names), NO_TIME)
    logs: dict[TopicPartition, list[Places]] = {}
    entities: dict[TopicPartition, set[str | None]] = {}
    for each in stretches:
        found = each.which >= 0
        columns[each.which[found]], known[each.which[found]] = each.columns[found], each.known[found]
        values[each.which[found]], hours[each.which[found]] = each.seen.values[found], each.seen.hours[found]
        whose[each.which[found]] = np.array(each.seen.entities, np.object_)[found]
        logs.setdefault(each.place, []).append(each.which[found])
        entities.setdefault(each.place, {None}).update(each.seen.entities)
    timed = sum(int((each.seen.times != NO_TIME).sum()) for each in stretches)
    in_order = [np.concatenate(log) for log in logs.values()]
    count = sum(len(some) - 1 for some in entities.values())
    return ContextData(basis, columns, known, values, whose, hours, in_order, count, timed)


def context_nines(
    config: Config, reach: Reach, model: DetectorModel, names: Sequence[str]
) -> NDArray[np.float32] | None:
    """Nines of the contexts of the records in `reach` that `names` (ids of alerts) tell, float32 [record]; NaN where a
    context says nothing, and for records elsewhere. None for a model that judges records alone.
    """
    context, view = model.context, model.view
    if context is None or view is None:
        return None
    columns, known = np.zeros((len(names), len(context.projection.axes)), np.float32), np.full(len(names), -1.0)
    reading = _Reading(config, model.schema, context.spec, model.usual_features)
    for each in reading.stretches(reach, context.read, names):
        found = each.which >= 0
        columns[each.which[found]], known[each.which[found]] = each.columns[found], each.known[found]
    return context.told(known, view.score_alone(Encoded.whole(columns[np.isnan(known)])).anomaly)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How telemetry is read for a context; `usual` [feature] are features of which a record must have a share to be used."""

    config: Config
    schema: FeatureSchema
    spec: ContextSpec
    usual: NDArray[np.bool_] | None = None

    def stretches(self, reach: Reach, read: Read, names: Sequence[str]) -> Iterator[_Stretch]:
        """Yields what contexts say of records, in the order of their logs."""
        which = {name: at for at, name in enumerate(names)}
        for place, (start, end) in reach.items():
            context = PartitionContext(self.spec)
            for seen, _ in self._records(place, max(0, start - self.spec.history), start):
                context.teach(seen.offsets, seen.entities, seen.times, seen.hours, seen.values)
            for seen, ids in self._records(place, start, end):
                found = np.fromiter((which.get(name, -1) for name in ids), np.int64, len(ids))
                yield _Stretch(place, found, seen, *read(context, seen))

    def _records(self, place: TopicPartition, first: int, end: int) -> Iterator[tuple[EntityRows, list[str]]]:
        """Yields usable records of [first, end), and the ids that alerts on them have."""
        if first >= end:
            return
        reader = decoder(self.config.record)
        judged = np.array([self.schema.names.index(name) for name in self.spec.features], np.int64)
        for batch in recent.records(self.config, {place: (first, end)}):
            messages = cast("list[Message]", batch)
            for stretch in reader.stretches(values_of(messages)):
                arrivals = Arrivals.of(messages[stretch])
                decoded = reader.decode(values_of(arrivals), self.schema, self.usual, told=True)
                for _, _, seen in seen_in_log(arrivals, decoded, self.spec, judged):
                    yield seen, _ids(place, seen.offsets, decoded.rows)


def _ids(place: TopicPartition, offsets: NDArray[np.int64], rows: Sequence[int] | None) -> list[str]:
    topic, partition = place
    ids = [f"{topic}-{partition}-{offset}" for offset in offsets.tolist()]
    return [f"{name}-{row}" for name, row in zip(ids, rows, strict=True)] if rows is not None else ids


def _width(stretches: Sequence[_Stretch]) -> int:
    return stretches[0].columns.shape[1] if stretches else 0
