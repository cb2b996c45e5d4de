"""Judges records of the log again, under any model that is on the models topic."""

from dataclasses import replace
from typing import NamedTuple, cast

from stream_detector.audit import alerts_topic
from stream_detector.audit.differences import Difference, Judgement, differences
from stream_detector.config import Config
from stream_detector.errors import ModelNotFoundError, NotRetainedError
from stream_detector.kafka import reads, topics
from stream_detector.model import DetectorModel
from stream_detector.records import Alert, Message
from stream_detector.registry import store
from stream_detector.worker.judge import Judge
from stream_detector.worker.partitions.restore import LogReader, Restored

__all__ = ["RecordPosition", "Replay", "judgement", "load", "model_in_force", "replay", "state_at"]

NORMAL = "none"  # severity of a record that is not flagged


class RecordPosition(NamedTuple):
    """Says where a record is; `row` in a message of many, otherwise None."""

    topic: str
    partition: int
    offset: int
    row: int | None = None

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row:,}"
        return f"topic {self.topic!r}, partition {self.partition}, offset {self.offset:,}{row}"


class Replay(NamedTuple):
    """Holds an alert, the judgement made again, and in what they differ (nothing: a match)."""

    alert: Alert
    judgement: Judgement
    differences: list[Difference]


def replay(config: Config, alert_id: str) -> Replay:
    """Judges an alert's record again, under the model that the alert names and the threshold of then.

    The configuration's record and threshold sections must be those of then. Raises
    `NotRetainedError` when the alert, its record or its model is gone.
    """
    alert = alerts_topic.find(config, alert_id)
    try:
        model = load(config, alert.model_version)
    except ModelNotFoundError as error:
        raise NotRetainedError(f"alert {alert_id!r} cannot be replayed: {error}") from None
    repeated = judgement(config, model, RecordPosition(alert.topic, alert.partition, alert.offset, alert.row))
    return Replay(alert, repeated, differences(alert, repeated))


def judgement(config: Config, model: DetectorModel, position: RecordPosition) -> Judgement:
    """Has `model` judge one record, with the threshold that it met or would have met.

    Raises `NotRetainedError` when the record is not there.
    """
    message = _record(config, position)
    judge = Judge(model, config)
    state, place = state_at(config, judge, position), (position.topic, position.partition)
    before = state.threshold
    if position.row:  # the rows before it in its message count, too
        before, _, past = state_at(config, judge, position)
        before.learn(judge.scores([message], past)[: position.row])
    met, history = before.current(), before.seen
    in_context = state.context is None or state.context.is_whole(position.offset)
    whole = history >= judge.limits.window or _begins(config, position) == 0
    while (outcome := judge.judge([message], {place: state.threshold}, contexts=state.contexts(place))) is None:
        state = state_at(config, judge, position)  # what makes it fail is a dead letter the next time
    if own := [alert for alert in outcome.alerts if alert.row in {position.row or 0, None}]:
        return Judgement(own[0], flagged=True, history=history, whole=whole, in_context=in_context)
    if outcome.dead_letters:
        return Judgement(outcome.dead_letters[0], flagged=False, history=history, whole=whole)
    how = "warming" if met.warming else "rolling"
    account = _account(config, judge, message, position)
    account = replace(account, threshold=met.value, threshold_state=how, severity=NORMAL)
    return Judgement(account, flagged=False, history=history, whole=whole, in_context=in_context)


def state_at(config: Config, judge: Judge, position: RecordPosition) -> Restored:
    """Rebuilds from the log the threshold and the context that the record at `position` meets under the judge's model."""
    with LogReader(config.kafka) as reader:
        return reader.restored(position[:2], _begins(config, position), position.offset, judge)


def load(config: Config, version: str) -> DetectorModel:
    """Loads the model of a whole version; raises `ModelNotFoundError` when it is not published (any more)."""
    return DetectorModel.from_bytes(store.fetch(config, version), config.worker.device)


def model_in_force(config: Config, position: RecordPosition) -> tuple[str, str]:
    """Finds the version that judged the record at `position`, and says how that is known.

    Alerts name their models, so its own does, or those before and after it in the partition when
    they agree; failing these it is the current one. Raises `NotRetainedError` when there is none.
    """
    named = {
        alert.offset: alert.model_version
        for alert in alerts_topic.everything(config)
        if (alert.topic, alert.partition) == position[:2]
    }
    if position.offset in named:
        return named[position.offset], "named by its alert"
    before = max((offset for offset in named if offset < position.offset), default=None)
    after = min((offset for offset in named if offset > position.offset), default=None)
    if before is not None and after is not None and named[before] == named[after]:
        return named[before], "named by the alerts before and after it"
    if (pointer := store.current(config)) is None:
        raise NotRetainedError(f"{position}: no model is published, and no alert names one; give --model")
    return pointer.version, "current now; no alert says which one judged the record"


def _record(config: Config, position: RecordPosition) -> Message:
    for batch in reads.read(config.kafka, position.topic, position.partition, position.offset, position.offset + 1):
        return cast("Message", batch[0])
    low, high = topics.watermarks(config.kafka, [position.topic]).get(position[:2], (0, 0))
    if position.offset < low:
        raise NotRetainedError(f"{position}: deleted by retention, the partition begins at {low:,}")
    if position.offset >= high:
        raise NotRetainedError(f"{position}: not written yet, the partition ends at {high:,}")
    raise NotRetainedError(f"{position}: holds no record, but a transaction's marker or what it aborted")


def _begins(config: Config, position: RecordPosition) -> int:
    return topics.watermarks(config.kafka, [position.topic])[position.topic, position.partition].low


def _account(config: Config, judge: Judge, message: Message, position: RecordPosition) -> Alert:
    """Describes the record as an alert does, whatever its threshold. Raises `NotRetainedError` for a row that is not there."""
    place = position.topic, position.partition
    contexts = state_at(config, judge, position).contexts(place) if judge.context_model else {}
    rows = judge.account(message, contexts)
    if (position.row or 0) >= len(rows):
        raise NotRetainedError(f"{position}: its message holds {len(rows):,} records, numbered from 0")
    return rows[position.row or 0]
