"""Alerts, dead letters and control events on their way into the open transaction.

A message that its topic refuses ends its transaction, and is written again in another form (see
`demands`). Which message of a batch was refused, and what for, is certain only where each is in a batch of
its own; so it is tried that way once before anything is concluded.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME
from confluent_kafka import KafkaError as Fault

from stream_detector.config import TopicsConfig
from stream_detector.detector import Outcome
from stream_detector.kafka.clients import BATCH_BYTES, Batching
from stream_detector.kafka.faults import Blame, blame
from stream_detector.kafka.identity import TopicIds
from stream_detector.records import Alert, DeadLetter
from stream_detector.records.control_events import ControlEvent
from stream_detector.worker.output.demands import TOO_LARGE, Demands
from stream_detector.worker.output.forms import Outgoing, size
from stream_detector.worker.output.transaction import Offsets, Transaction

__all__ = ["Outbox"]

MOST_TRIES = 200  # in a row that only tell of refusals; more than that is trouble
LEAST_BATCH = 1_000  # bytes; a message larger than a batch may be is a batch of its own

log = structlog.get_logger(__name__)


class Refusal(NamedTuple):
    """What a topic would not take, and why."""

    topic: str
    sent: Outgoing
    fault: Fault


class Outbox:
    """Sends outcomes, each message in a form that its topic takes as far as is known.

    `subject` names what the last transaction failed at: a message that was not taken, or the topics that
    messages of its last batch went to. `batching` is how the next producer is to put messages together,
    `topic_ids` tell alerts' sources apart.
    """

    def __init__(self, transaction: Transaction, topics: TopicsConfig, topic_ids: TopicIds) -> None:
        self.subject = ""
        self.batching = Batching()
        self._transaction = transaction
        self._topics = topics
        self._topic_ids = topic_ids
        self._demands = {name: Demands(name) for name in (topics.alerts, topics.dead_letters, topics.control)}
        self._sent: Counter[str] = Counter()
        self._refusals: list[Refusal] = []
        self._batch_bytes = BATCH_BYTES
        self._used: tuple[str, ...] = ()
        self._not_taken = ""
        self._tries = 0

    def sweep(self, topics: tuple[str, ...], offsets: Offsets, membership: Callable[[], bytes | None]) -> bool:
        """Ends what producers before this one left on `topics` and in the group; whether that went well."""
        self._used = topics
        return self._transaction.sweep(topics, offsets, membership, self._on_swept)

    def send(self, outcome: Outcome) -> int:
        """Puts a batch's alerts and dead letters into the open transaction; how many no form is left for."""
        alerts, letters = outcome.alerts, outcome.dead_letters
        self._used = (self._topics.alerts,) * bool(alerts) + (self._topics.dead_letters,) * bool(letters)
        left_out = self._put(self._topics.alerts, map(self._of_alert, alerts))
        return left_out + self._put(self._topics.dead_letters, map(_of_letter, letters))

    def report(self, events: Sequence[ControlEvent]) -> int:
        """Puts control events into the open transaction; how many no form is left for."""
        self._used += (self._topics.control,) * bool(events)
        return self._put(self._topics.control, map(_of_event, events))

    def settle(self) -> None:
        """The transaction is committed: messages may share batches again."""
        self._tries, self._not_taken = 0, ""
        self._sent.clear()
        for demands in self._demands.values():
            demands.settle()
        if self.batching.messages == 1:
            self._go_on(Batching(self._batch_bytes))

    def heed(self) -> bool:
        """After a transaction that failed: whether messages were refused in it, which have another form now."""
        refusals, self._refusals = self._refusals, []
        sent, self._sent = self._sent, Counter()
        self.subject, self._not_taken = self._not_taken or ", ".join(map(repr, self._used)), ""
        self._tries += 1
        if not refusals or self._tries > MOST_TRIES:
            return False
        certain = [each for each in refusals if self._is_certain(each, sent)]
        for topic, message, fault in certain:
            self._demands[topic].learn(message, fault)
        first = (certain or refusals)[0]
        log.warning("message refused", topic=first.topic, record=first.sent.id, why=first.fault.str())
        if len(certain) < len(refusals):
            self._thin_out(refusals)
        self._go_on(self.batching)
        return True

    def _put(self, topic: str, messages: Iterable[Outgoing]) -> int:
        left_out = 0
        for message in messages:
            if self._produce(topic, message):
                self._sent[topic] += 1
            else:
                left_out += 1
        return left_out

    def _of_alert(self, alert: Alert) -> Outgoing:
        return Outgoing(alert.id, alert.key, alert.to_json(), alert.headers(self._topic_ids.get(alert.topic)))

    def _produce(self, topic: str, message: Outgoing) -> bool:
        """Sends a message in the next form that the client takes; whether one is left."""
        demands = self._demands[topic]
        while form := demands.form(message):
            delivered = partial(self._on_delivered, topic, form)
            fault = self._transaction.produce(
                topic, form.key, form.value, form.headers, form.timestamp_ms, delivered=delivered
            )
            if fault is None:
                return True
            demands.learn(form, fault)
        return False

    def _on_delivered(self, topic: str, sent: Outgoing, fault: Fault | None, _report: Any) -> None:
        """Notes why a message was not taken; its transaction aborts."""
        if fault is None:
            return
        self._not_taken = self._not_taken or f"topic {topic!r}, record {sent.id!r}"
        if blame(fault) is Blame.MESSAGE:
            self._refusals.append(Refusal(topic, sent, fault))

    def _on_swept(self, fault: Fault | None, report: Any) -> None:
        if fault is not None:
            self._not_taken = self._not_taken or f"topic {report.topic()!r}, the message that no one reads"
        elif report.timestamp()[0] == TIMESTAMP_LOG_APPEND_TIME:
            self._demands[report.topic()].stamps = True

    def _is_certain(self, refusal: Refusal, sent: Counter[str]) -> bool:
        """Whether a message was in a batch of its own."""
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


def _of_letter(letter: DeadLetter) -> Outgoing:
    place = f"{letter.topic}-{letter.partition}-{letter.offset}"
    return Outgoing(place, letter.key, letter.value, letter.headers, letter.timestamp_ms, structured=False)


def _of_event(event: ControlEvent) -> Outgoing:
    return Outgoing(event.id, f"{event.topic}-{event.partition}".encode(), event.to_json())
