"""What became of every record, found out without asking the workers: the log judged again under each model.

An alert names its model, so between an alert of one model and the next of another lies the offset
at which the partition changed. Where exactly is open by the records that neither flags.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise

from consumers.tail import alerts
from stream_detector.audit.backtest import judged
from stream_detector.audit.differences import Judgement, differences
from stream_detector.audit.replay import RecordPosition, load
from stream_detector.config import Config
from stream_detector.kafka import topics
from stream_detector.kafka.follow import follow
from stream_detector.kafka.group import progress
from stream_detector.records import Alert, TopicPartition, raw
from stream_detector.worker.judge import Judge

__all__ = ["Dispositions", "dispositions", "turn"]

SHOWN = 5  # mismatches told of each partition
SOURCE = ("__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset")


@dataclass(slots=True)
class Dispositions:
    """Faults of the bookkeeping, and who judged what: `models` by partition, each from its first offset on."""

    alerts: list[Alert] = field(default_factory=list)
    models: dict[TopicPartition, list[tuple[int, str]]] = field(default_factory=dict)
    lost: int = 0
    duplicated: int = 0
    mismatched: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Expected:
    """What one model says of a partition: alerts and dead letters by offset."""

    alerts: Mapping[int, Alert]
    letters: frozenset[int]


def dispositions(config: Config, starts: Mapping[TopicPartition, int]) -> Dispositions:
    """Holds the alerts and dead letters of all records from `starts` on against what they must be.

    *lost*: records that are not committed, or whose alert or dead letter is missing. *duplicated*:
    alerts and dead letters that are there twice. *mismatched*: alerts that come out otherwise when
    they are replayed under the model that they name.
    """
    result = Dispositions(
        alerts=list(alerts(follow(config.kafka, config.topics.alerts, from_beginning=True, endless=False)))
    )
    letters = list(_letters(config))
    ids = Counter(alert.id for alert in result.alerts)
    result.duplicated = sum(ids.values()) - len(ids) + len(letters) - len(set(letters))
    result.lost = sum(each.end - (each.committed or 0) for each in progress(config))
    judges = {version: Judge(load(config, version), config) for version in {a.model_version for a in result.alerts}}
    for partition, end in topics.end_offsets(config.kafka, config.topics.telemetry).items():
        own = sorted((a for a in result.alerts if (a.topic, a.partition) == partition), key=lambda a: a.offset)
        versions = list(dict.fromkeys(alert.model_version for alert in own))
        expected = {
            v: _expected(config, judges[v], RecordPosition(*partition, starts[partition]), end) for v in versions
        }
        _reckon(result, partition, starts[partition], end, own, expected, {o for p, o in letters if p == partition})
    return result


def turn(before: Collection[int], after: Collection[int], last: int, first: int) -> int:
    """The offset in (`last`, `first`] at which a model most likely took over: the one that misses fewest alerts.

    `before` and `after` are the offsets that the former and the latter model flag; between `last`
    and `first` there is no alert.
    """
    left = [offset for offset in before if last < offset < first]
    right = [offset for offset in after if last < offset < first]

    def missing(start: int) -> int:
        return sum(offset < start for offset in left) + sum(offset >= start for offset in right)

    return min((last + 1, *(offset + 1 for offset in right)), key=missing)


def _reckon(
    result: Dispositions,
    partition: TopicPartition,
    start: int,
    end: int,
    own: list[Alert],
    expected: Mapping[str, Expected],
    letters: set[int],
) -> None:
    wrong = [alert for alert in own if _mismatch(alert, expected[alert.model_version])]
    result.mismatched += len(wrong)
    result.examples += [f"{a.id}: {_mismatch(a, expected[a.model_version])}" for a in wrong[:SHOWN]]
    turns = [(start, version) for version in islice(expected, 1)]
    for one, other in pairwise(expected):
        last = max(alert.offset for alert in own if alert.model_version == one)
        first = min(alert.offset for alert in own if alert.model_version == other)
        turns.append((turn(expected[one].alerts, expected[other].alerts, last, first), other))
    result.models[partition] = turns
    flagged = {alert.offset for alert in own}
    for (begin, version), (following, _) in pairwise([*turns, (end, "")]):
        judgement = expected[version]
        result.lost += sum(begin <= offset < following for offset in judgement.alerts.keys() - flagged)
        result.lost += sum(begin <= offset < following for offset in judgement.letters - letters)


def _mismatch(alert: Alert, expected: Expected) -> str:
    """In what an alert differs from what its model says of its record; empty when in nothing."""
    again = expected.alerts.get(alert.offset)
    if again is None:
        return f"score {alert.score:g}, threshold {alert.threshold:g}: not flagged when replayed"
    found = differences(alert, Judgement(again, flagged=True, history=0, whole=True))
    return ", ".join(f"{each.field} {each.recorded} on record, {each.repeated} replayed" for each in found)


def _expected(config: Config, judge: Judge, start: RecordPosition, end: int) -> Expected:
    found: dict[int, Alert] = {}
    letters: set[int] = set()
    for outcome, _ in judged(config, judge, start, end):
        found.update((alert.offset, alert) for alert in outcome.alerts)
        letters.update(letter.offset for letter in outcome.dead_letters)
    return Expected(found, frozenset(letters))


def _letters(config: Config) -> Iterator[tuple[TopicPartition, int]]:
    """The places that dead letters came from."""
    for message in follow(config.kafka, config.topics.dead_letters, from_beginning=True, endless=False):
        headers = dict(message.headers() or ())
        topic, partition, offset = ((raw(headers[name]) or b"").decode() for name in SOURCE)
        yield (topic, int(partition)), int(offset)
