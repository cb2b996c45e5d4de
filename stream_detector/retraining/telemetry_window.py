"""Reads the telemetry that a retraining learns from: records with their position, time and entity."""

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, cast

from stream_detector.absence import telling
from stream_detector.config import Config, RecordConfig
from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema, encode
from stream_detector.gan.training import Progress
from stream_detector.kafka import recent
from stream_detector.kafka.formats import decoder
from stream_detector.kafka.recent import Reach
from stream_detector.records import Decoder, Message, raw, values_of
from stream_detector.records.message import TopicPartition

__all__ = [
    "ArrivalCounter",
    "RecordPosition",
    "TelemetryReader",
    "TelemetryRecord",
    "TelemetryWindow",
    "read_records",
    "read_window",
    "record_ids",
]

RecordPosition = tuple[str, int, int]
"""Topic, partition and offset of a message."""

NEAR = 1_000  # offsets between two records that are read in one go


@dataclass(frozen=True, slots=True)
class TelemetryRecord:
    """A usable record; `id` is the id that an alert on it has, `time_ms` Kafka's timestamp of its message, epoch ms."""

    id: str
    source: RecordPosition
    time_ms: int
    entity: str | None
    features: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TelemetryWindow:
    """The usable records of a stretch of telemetry in order of time, and the others counted by reason."""

    records: Sequence[TelemetryRecord]
    unusable: Mapping[str, int]

    @property
    def offsets(self) -> dict[str, list[int]]:
        """First and last offset of a usable record, by `topic-partition`."""
        ranges: dict[str, list[int]] = {}
        for topic, partition, offset in sorted(record.source for record in self.records):
            ranges.setdefault(f"{topic}-{partition}", [offset, offset])[1] = offset
        return ranges

    def of(self, schema: FeatureSchema, record: RecordConfig) -> "TelemetryWindow":
        """Keeps the records that fit `schema`; raises `DataError` when that is less than half of all."""
        features = [each.features for each in self.records]
        rejected = telling(encode(schema, features, record.max_string), schema, features).rejected
        unusable = Counter(self.unusable) + Counter(why.reason for why in rejected.values())
        total = len(self.records) + sum(self.unusable.values())
        if 2 * sum(unusable.values()) > total:
            most = next(iter(Counter(why.message for why in rejected.values()).most_common(1)), ("", 0))[0]
            raise DataError(
                f"{sum(unusable.values()):,} of {total:,} records cannot be used "
                f"({most or ', '.join(unusable)}); check record.* and features against what the topics hold"
            )
        kept = [each for position, each in enumerate(self.records) if position not in rejected]
        return TelemetryWindow(kept, dict(sorted(unusable.items())))


def read_window(config: Config, reach: Reach, progress: Progress) -> TelemetryWindow:
    """Reads the records of `reach` that are still retained; raises `DataError` when there is none.

    Of messages that hold many records the oldest may be taken in part, so that all together are at most
    `retrain.records`; every partition gives an equal share of them, or all that it has.
    """
    total = sum(end - start for start, end in reach.values())
    reader = TelemetryReader(config)
    found: dict[TopicPartition, deque[TelemetryRecord]] = {}
    messages = 0
    for place, span in reach.items():
        found[place] = deque(maxlen=config.retrain.records if reader.many else None)
        for batch in recent.records(config, {place: span}):
            found[place].extend(reader.usable(cast("list[Message]", batch)))
            messages += len(batch)
            progress(min(messages, total), total, "reading telemetry")
    if not messages:
        raise DataError(
            f"the window of {', '.join(config.topics.telemetry)} holds no record; "
            "check that telemetry arrives, or widen retrain.since"
        )
    records = _newest(found, config.retrain.records) if reader.many else list(chain.from_iterable(found.values()))
    records.sort(key=lambda record: (record.time_ms, record.source))
    return TelemetryWindow(records, reader.unusable)


def _newest(found: Mapping[TopicPartition, Sequence[TelemetryRecord]], count: int) -> list[TelemetryRecord]:
    """The newest `count` records, an equal share of every partition."""
    shares = recent.shares({place: len(records) for place, records in found.items()}, count)
    skipped = {place: len(records) - shares[place] for place, records in found.items()}
    return [record for place, records in found.items() for record in islice(records, skipped[place], None)]


def read_records(config: Config, ids: Collection[str]) -> list[TelemetryRecord]:
    """Reads the records that alert ids name, as far as they are usable and still retained, in order of offset."""
    sources = sorted(filter(None, (_source(alert_id, config) for alert_id in ids)))
    reader = TelemetryReader(config)
    found: list[TelemetryRecord] = []
    for topic, partition, start, end in _stretches(sources):
        for batch in recent.records(config, {(topic, partition): (start, end)}):
            found += [record for record in reader.usable(cast("list[Message]", batch)) if record.id in ids]
    return found


def record_ids(messages: Sequence[Message], positions: Sequence[int], *, many: bool) -> list[str]:
    """The ids that alerts on records have, by the positions of their messages, each of which may hold `many`."""
    places = (messages[position] for position in positions)
    names = [f"{message.topic()}-{message.partition()}-{message.offset()}" for message in places]
    if not many:
        return names
    rows: Counter[str] = Counter()
    for at, name in enumerate(names):
        names[at] = f"{name}-{rows[name]}"
        rows[name] += 1
    return names


class TelemetryReader:
    """Decodes messages, and counts what cannot be used by reason; `many`: a message may hold several records."""

    def __init__(self, config: Config) -> None:
        self._decoder: Decoder = decoder(config.record)
        self._declared = config.declared_schema
        self.many = self._decoder.many
        self.unusable: Counter[str] = Counter()

    def size(self, message: Message) -> int:
        """The number of records that a message claims to hold; one that cannot be read counts as one."""
        return self._decoder.count(raw(message.value()))

    def usable(self, messages: Sequence[Message]) -> Iterator[TelemetryRecord]:
        """Yields the usable records of messages, few of them as objects at a time."""
        values = values_of(messages)
        for stretch in self._decoder.stretches(values):
            yield from self._usable(messages[stretch], values[stretch])

    def _usable(self, messages: Sequence[Message], values: Sequence[bytes | None]) -> Iterator[TelemetryRecord]:
        rows = self._decoder.read(values, self._declared)
        self.unusable.update(why.reason for why in rows.rejected.values())
        names = record_ids(messages, rows.kept, many=self._decoder.many)
        for position, name, document, features in zip(rows.kept, names, rows.documents, rows.features, strict=True):
            message = messages[position]
            source = (message.topic() or "", message.partition() or 0, message.offset() or 0)
            entity = self._decoder.identity(document)[1]
            yield TelemetryRecord(name, source, message.timestamp()[1], entity, features)


class ArrivalCounter:
    """Counts the records written since `since_ms` (epoch ms) and still retained; for one thread.

    Each is read once: a message may hold many, and markers of transactions have offsets, too.
    """

    def __init__(self, config: Config, since_ms: int) -> None:
        self.since_ms = since_ms
        self._config = config
        self._reader = TelemetryReader(config)
        self._read: dict[TopicPartition, int] = {}
        self._count = 0

    def reach(self, count: int) -> bool:
        """Tells whether there are at least `count` by now. Raises `TopicMissingError` for a topic that is not there."""
        retained = recent.retained(self._config, self.since_ms)
        if not self._reader.many and sum(end - start for start, end in retained.values()) < count:
            return False
        for place, (start, end) in retained.items():
            self._take(place, max(start, self._read.get(place, 0)), end, count)
        return self._count >= count

    def _take(self, place: TopicPartition, start: int, end: int, most: int) -> None:
        """Counts on in one partition, until there are enough in all."""
        for batch in recent.records(self._config, {place: (start, end)}):
            if self._count >= most:
                return
            self._count += sum(1 for _ in self._reader.usable(cast("list[Message]", batch)))
            self._read[place] = (batch[-1].offset() or 0) + 1


def _source(alert_id: str, config: Config) -> RecordPosition | None:
    """The position of the message of an alert's record; None when the id names none of the telemetry topics."""
    for topic in config.topics.telemetry:
        place = alert_id.removeprefix(f"{topic}-").split("-")
        if alert_id.startswith(f"{topic}-") and len(place) in {2, 3} and all(map(str.isdecimal, place)):
            return topic, int(place[0]), int(place[1])
    return None


def _stretches(sources: Sequence[RecordPosition]) -> Iterator[tuple[str, int, int, int]]:
    """Topic, partition, first offset and the one after the last, of sources that lie near each other."""
    stretch: tuple[str, int, int, int] | None = None
    for topic, partition, offset in sources:
        if stretch and stretch[:2] == (topic, partition) and offset - stretch[3] < NEAR:
            stretch = (*stretch[:3], offset + 1)
        else:
            if stretch:
                yield stretch
            stretch = topic, partition, offset, offset + 1
    if stretch:
        yield stretch
