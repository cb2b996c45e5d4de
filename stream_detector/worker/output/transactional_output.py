"""Puts alerts, dead letters and control events into the open transaction.

A message that its topic refuses ends its transaction, and is written again in another form (see
`topic_limits`). Which message of a batch was refused, and why, is certain only where each is in a batch of
its own; so it is tried that way once before anything is concluded.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME
from confluent_kafka import KafkaError as Fault

from stream_detector.config import TopicsConfig
from stream_detector.detector import Outcome
from stream_detector.kafka.clients import BATCH_BYTES, Batching
from stream_detector.kafka.faults import Blame, blame
from stream_detector.kafka.topic_descriptions import TopicIds
from stream_detector.records import Alert, DeadLetter
from stream_detector.records.control_events import ControlEvent
from stream_detector.worker.output.producer import Outgoing
from stream_detector.worker.output.topic_limits import TOO_LARGE, TopicLimits, size
from stream_detector.worker.output.transaction import Transaction

__all__ = ["TransactionalOutput"]

MOST_TRIES = 200  # in a row that only tell of refusals; more than that is trouble
LEAST_BATCH = 1_000  # bytes; a message larger than a batch may be is a batch of its own

log = structlog.get_logger(__name__)


class Refusal(NamedTuple):
    """Holds a message that its topic did not take, and the fault that says why."""

    topic: str
    sent: Outgoing
    fault: Fault


class TransactionalOutput:
    """Sends outcomes, each message in a form that its topic takes as far as is known.

    `written` are the topics that messages of the last batch went to. `subject` names what the last transaction
    failed at: a message that was not taken, or these topics. `batching` is how the next producer is to put messages
    together, `topic_ids` tell alerts' sources apart.
    """

    def __init__(self, transaction: Transaction, topics: TopicsConfig, topic_ids: TopicIds) -> None:
        self.subject = ""
        self.batching = Batching()
        self.written: tuple[str, ...] = ()
        self._transaction = transaction
        self._topics = topics
        self._topic_ids = topic_ids
        self._limits: dict[str, TopicLimits] = {}  # of topics that refused a message, or change its time
        self._sent: Counter[str] = Counter()
        self._refusals: list[Refusal] = []
        self._batch_bytes = BATCH_BYTES
        self._not_taken = ""
        self._tries = 0

    def send(self, outcome: Outcome) -> int:
        """Puts a batch's alerts and dead letters into the open transaction; counts those that no form is left for."""
        topics = (self._topics.alerts, outcome.alerts), (self._topics.dead_letters, outcome.dead_letters)
        self.written = tuple(topic for topic, messages in topics if messages)
        left_out = self._put(self._topics.alerts, map(self._from_alert, outcome.alerts))
        return left_out + self._put(self._topics.dead_letters, map(_from_letter, outcome.dead_letters))

    def report(self, events: Sequence[ControlEvent]) -> int:
        """Puts control events into the open transaction; counts those that no form is left for."""
        if events:
            self.written += (self._topics.control,)
        return self._put(self._topics.control, map(_from_event, events))

    def settle(self) -> None:
        """Notes that the transaction is committed: messages may share batches again."""
        self._tries, self._not_taken = 0, ""
        self._sent.clear()
        for limits in self._limits.values():
            limits.settle()
        if self.batching.messages == 1:
            self._go_on(Batching(self._batch_bytes))

    def adapt(self) -> bool:
        """Learns from a transaction that failed; whether messages were refused in it, which have another form now."""
        refusals, self._refusals = self._refusals, []
        sent, self._sent = self._sent, Counter()
        self.subject, self._not_taken = self._not_taken or ", ".join(map(repr, self.written)), ""
        self._tries += 1
        if not refusals or self._tries > MOST_TRIES:
            return False
        certain = [each for each in refusals if self._is_certain(each, sent)]
        for topic, message, fault in certain:
            self._limits_of(topic).learn(message, fault)
        first = (certain or refusals)[0]
        log.warning("message refused", topic=first.topic, record=first.sent.id, why=first.fault.str())
        if len(certain) < len(refusals):
            self._thin_out(refusals)
        self._go_on(self.batching)
        return True

    def on_swept(self, fault: Fault | None, report: Any) -> None:
        """Takes the delivery report of a message that is only written to be aborted."""
        if fault is not None:
            self._not_taken = self._not_taken or f"topic {report.topic()!r}, the message that no one reads"
        elif report.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME:
            self._limits_of(report.topic()).stamps = True

    def _put(self, topic: str, messages: Iterable[Outgoing]) -> int:
        left_out = 0
        for message in messages:
            if self._produce(topic, message):
                self._sent[topic] += 1
            else:
                left_out += 1
        return left_out

    def _from_alert(self, alert: Alert) -> Outgoing:
        return Outgoing(alert.id, alert.key, alert.to_json(), alert.headers(self._topic_ids.get(alert.topic)))

    def _produce(self, topic: str, message: Outgoing) -> bool:
        """Sends a message in the next form that the client takes; whether one is left."""
        limits = self._limits.get(topic)
        while form := limits.form(message) if limits else message:
            delivered = partial(self._on_delivered, topic, form)
            fault = self._transaction.produce(
                topic, form.key, form.value, form.headers, form.timestamp_ms, delivered=delivered
            )
            if fault is None:
                return True
            limits = self._limits_of(topic)
            limits.learn(form, fault)
        return False

    def _limits_of(self, topic: str) -> TopicLimits:
        return self._limits.setdefault(topic, TopicLimits(topic))

    def _on_delivered(self, topic: str, sent: Outgoing, fault: Fault | None, _report: Any) -> None:
        """Notes why a message was not taken; its transaction aborts."""
        if fault is None:
            return
        self._not_taken = self._not_taken or f"topic {topic!r}, record {sent.id!r}"
        if blame(fault) is Blame.MESSAGE:
            self._refusals.append(Refusal(topic, sent, fault))

    def _is_certain(self, refusal: Refusal, sent: Counter[str]) -> bool:
        """Tells whether a message was in a batch of its own."""
        alone = self.batching.messages == 1 or sent[refusal.topic] == 1
        return alone or size(refusal.sent) >= self.batching.bytes

    def _thin_out(self, refusals: list[Refusal]) -> None:
        """Has each message sent in a batch of its own the next time, and batches be smaller after that if need be."""
        self.batching = self.batching._replace(messages=1)
        crowds: Counter[str] = Counter()
        for topic, message, fault in refusals:
            crowds[topic] += size(message) * (fault.code() in TOO_LARGE)
        if crowd := max(crowds.values()):
            self._batch_bytes = max(LEAST_BATCH, min(self._batch_bytes, crowd) // 2)

    def _go_on(self, batching: Batching) -> None:
        """Goes on with another producer; one that had a message refused has lost count of what it sent."""
        self.batching = batching
        self._transaction.give_up()


def _from_letter(letter: DeadLetter) -> Outgoing:
    position = f"{letter.topic}-{letter.partition}-{letter.offset}"
    return Outgoing(position, letter.key, letter.value, letter.headers, letter.timestamp_ms, structured=False)


def _from_event(event: ControlEvent) -> Outgoing:
    return Outgoing(event.id, f"{event.topic}-{event.partition}".encode(), event.to_json())
