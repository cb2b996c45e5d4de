"""One Kafka transaction after another, as a state machine around the transactional producer.

    DOUBTFUL -> READY -> OPEN -> COMMITTING -> READY     committed
                         OPEN, COMMITTING -> ABORTING -> READY     aborted
    and from anywhere back to DOUBTFUL when an outcome is not certain.

A producer in doubt may still have a commit or abort on its way that would end the *next*
transaction (the client does not speak KIP-890). So it is never used again: another one with the
same transactional id takes over, which ends whatever was open and fences what is still in flight.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from math import inf
from typing import Any

import structlog
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException, Producer

from stream_detector.errors import FencedError
from stream_detector.kafka.bounded import bounded
from stream_detector.kafka.evidence import Connections, is_member
from stream_detector.kafka.faults import FENCED, PURGED, Blame, Verdict, blame, classify
from stream_detector.kafka.identity import TopicIds, labelled
from stream_detector.records import Header

__all__ = ["MOVES", "NO_TIME", "Delivered", "Offsets", "State", "Transaction"]

Offsets = Mapping[tuple[str, int], int]
ErrorCallback = Callable[[Fault], None]
StatsCallback = Callable[[str], None]
Connect = Callable[[ErrorCallback, StatsCallback], Producer]
Delivered = Callable[[Fault | None, Any], None]

FENCED_TWICE = 60.0  # seconds; two fencings within them are no accident
INIT_SLICE = 2.0  # seconds that one attempt to take over may block
QUEUE_WAIT = 0.1  # seconds to let a full queue drain
RETRY_PAUSE = 0.05  # seconds; most retriable calls have waited long enough themselves
GRACE = 5.0  # seconds beyond its own time limit that a call of the client may take
QUICK = 0.05  # seconds; the client repeats a request that got no answer later than this
RECENT = 0.02  # seconds after a commit in which the broker may still be writing its markers
SETTLED = 60.0  # seconds after a commit in which the broker has written its markers, whatever it went through
REFUSAL = 0.05  # seconds; how late it is noticed that a message was refused
LONG_REST = 3_600.0  # seconds; brokers forget transactional ids after days, unless told otherwise
DELIVERY = 0.2  # seconds to wait for messages to arrive; most take a few milliseconds
SWEEP = b"stream-detector.sweep"  # the key of messages that are only written to be aborted
NO_TIME = -1  # a timestamp that says there is none, which a topic takes whatever the time
ANY = -1  # the client chooses the partition, by the key

LOST = Fault(Fault._TRANSPORT, "a connection was lost during the transaction")  # noqa: SLF001

log = structlog.get_logger(__name__)


class State(StrEnum):
    """Where the producer stands."""

    READY = "ready"
    OPEN = "open"
    COMMITTING = "committing"
    ABORTING = "aborting"
    DOUBTFUL = "doubtful"
    CLOSED = "closed"


MOVES: Mapping[State, frozenset[State]] = {
    State.DOUBTFUL: frozenset({State.READY, State.DOUBTFUL, State.CLOSED}),
    State.READY: frozenset({State.OPEN, State.DOUBTFUL, State.CLOSED}),
    State.OPEN: frozenset({State.COMMITTING, State.ABORTING, State.DOUBTFUL}),
    State.COMMITTING: frozenset({State.READY, State.ABORTING, State.DOUBTFUL}),
    State.ABORTING: frozenset({State.READY, State.DOUBTFUL}),
    State.CLOSED: frozenset(),
}
"""The legal moves; any other is a programming error."""


class Transaction:
    """The transactional producer of one worker; used by one thread only.

    `connect` makes a producer that reports connection faults and statistics to the callbacks given.
    `timeout` is the broker's transaction timeout, seconds; `beat` is called while the client waits;
    `topic_ids` are committed beside the offsets. Faults of Kafka are not raised: they
    turn up as `state` and `fault` (the last one), except `FencedError`.
    """

    def __init__(
        self,
        connect: Connect,
        timeout: float,
        slot: str,
        beat: Callable[[], None] = lambda: None,
        topic_ids: TopicIds | None = None,
    ) -> None:
        self.state = State.DOUBTFUL
        self.fault: Fault | None = None
        self._connect = connect
        self._timeout = timeout
        self._slot = slot
        self._beat = beat
        self._topic_ids = {} if topic_ids is None else topic_ids
        self._producer: Producer | None = None
        self._doomed = False
        self._slow = False
        self._connections = Connections()
        self._opened_at = 0.0
        self._ended_at = self._ready_at = -inf
        self._fenced_at = -FENCED_TWICE

    def take_over(self) -> bool:
        """Leaves DOUBTFUL by a new producer; False when that did not succeed yet, to be tried again.

        Blocks at most about 2 s. Raises `FencedError` when the producer was fenced twice in a minute.
        """
        if self._producer is None:
            self._producer = self._connect(self._on_error, self._connections.on_stats)
        try:
            self._producer.init_transactions(INIT_SLICE)
        except KafkaException as error:
            if self._verdict(error) is not Verdict.RETRY:
                self._discard()
            return False
        self._connections.renew()
        self._look_back()
        self._ready_at = time.monotonic()
        self._move(State.READY)
        return True

    def retire(self) -> bool:
        """READY -> DOUBTFUL when connections were lost while nothing was to do, or after a long rest; whether so.

        To be done between transactions, so that the next one need not find out, and be aborted; and
        before the broker forgets a producer that writes nothing.
        """
        if self.state is not State.READY:
            return False
        rest = time.monotonic() - max(self._ended_at, self._ready_at)
        retired = self._connections.shaken or rest > LONG_REST or (rest < SETTLED and self._connections.were_lost())
        if retired:
            self._doubt()
        return retired

    def attend(self) -> None:
        """Lets the client call back; to be done ever and again, for what it has to tell is kept until then."""
        self._serve(0)

    def begin(self) -> None:
        """READY -> OPEN, or DOUBTFUL when the connection did not last."""
        self._require(State.READY)
        self._serve(0)
        if (
            self._connections.shaken
        ):  # the brokers were away meanwhile, and the client may hold on to a coordinator that is gone
            self._doubt()
            return
        self._doomed, self.fault = False, None
        self._opened_at = time.monotonic()
        if self._opened_at - self._ended_at > SETTLED:
            self._connections.forgive()
        try:
            self._live.begin_transaction()
        except KafkaException as error:
            self._verdict(error)
            self._doubt()
        else:
            self._move(State.OPEN)

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        timestamp_ms: int = 0,
        *,
        delivered: Delivered | None = None,
        partition: int = ANY,
    ) -> Fault | None:
        """Adds a message to the open transaction; one that cannot be sent dooms the transaction.

        Not so one that the client refuses as it is: that fault is returned, and the transaction goes on.
        `timestamp_ms` 0 is now. `delivered` is told the message's own outcome, from a later call.
        """
        if self.state is not State.OPEN or self._doomed:
            return None
        send = partial(
            self._live.produce,
            topic,
            key=key,
            value=value,
            partition=partition,
            headers=list(headers),
            timestamp=timestamp_ms,
            on_delivery=partial(self._on_delivery, delivered),
        )
        try:
            self._within_queue(send)
        except KafkaException as error:
            return self._unsent(error)
        return None

    def commit(self, offsets: Offsets, membership: Callable[[], bytes | None]) -> bool:
        """Ends the open transaction with `offsets` (the next to read, by partition); whether it did.

        On False nothing was committed if `state` is READY; if it is DOUBTFUL, only the broker knows.
        A transaction during which a connection was lost is aborted: the broker may have left out markers
        of the one before (see `sweep`), which this one's would then take the place of.
        """
        if self.state is not State.OPEN:
            return False
        if time.monotonic() - self._ended_at < RECENT:
            # The broker takes nothing of a transaction while it writes the markers of the one before. The client
            # asks again after 20 ms for its first message, but after 100 ms for offsets.
            self._deliver()
        if self._look_back() or not self._send_offsets(offsets, membership()) or not self._arrived():
            self._roll_back()
            return False
        self._move(State.COMMITTING)
        verdict = self._end(partial(self._live.commit_transaction, self._timeout))
        if verdict is Verdict.ABORT:
            self._roll_back()
        elif verdict or self._connections.shaken:
            self._doubt()
        else:
            self._move(State.READY)
        self._ended_at = time.monotonic()
        return verdict is None

    def sweep(
        self,
        topics: Sequence[str],
        offsets: Offsets,
        membership: Callable[[], bytes | None],
        delivered: Delivered | None = None,
    ) -> bool:
        """Writes to every partition of `topics` and to the group, and aborts that; whether it went well.

        From READY; to be done once by each new producer, before it commits. Its markers end what is left of the
        producer before it, which this one's first commit would commit: offsets that reached the group's coordinator
        only after their transaction was ended, and messages whose marker was never written, because a broker
        that comes back passes over partitions without a leader (KAFKA-20734). `delivered` is told of each message.
        """
        places = self._places(topics)
        if not places:
            return False
        self.begin()
        self._look_back()
        for topic, partition in places:
            self.produce(topic, SWEEP, None, [], NO_TIME, delivered=delivered, partition=partition)
        done = self._fill(offsets, membership())
        self._roll_back()
        return done and self.state is State.READY

    def abort(self) -> None:
        """OPEN -> READY, or DOUBTFUL when the abort itself is in doubt; nothing in any other state."""
        if self.state is State.OPEN:
            self._look_back()
            self._roll_back()

    def give_up(self) -> None:
        """READY -> DOUBTFUL: goes on with another producer."""
        if self.state is State.READY:
            self._doubt()

    @property
    def age(self) -> float:
        """Seconds since the open transaction began; 0 without one."""
        return time.monotonic() - self._opened_at if self.state is State.OPEN else 0.0

    def close(self) -> None:
        """Aborts what is open and lets the producer go."""
        self.abort()
        self._discard()
        self._move(State.CLOSED)

    def _roll_back(self) -> None:
        if self.state not in {State.OPEN, State.COMMITTING}:
            return
        self._move(State.ABORTING)
        cause = self.fault
        verdict = self._end(partial(self._live.abort_transaction, self._timeout))
        self.fault = cause or self.fault
        if verdict or self._connections.shaken:
            self._doubt()
        else:
            self._serve(0)  # the reports of what was purged, before the next transaction counts its own
            self._move(State.READY)

    def _places(self, topics: Sequence[str]) -> list[tuple[str, int]]:
        """Every partition of the topics; none when the broker does not tell."""
        try:
            known = [self._live.list_topics(topic, self._timeout / 2).topics[topic] for topic in topics]
        except KafkaException as error:
            self._verdict(error)
            return []
        # A topic that is not there says so when it is written to.
        return [(topic.topic, partition) for topic in known for partition in topic.partitions or [ANY]]

    def _fill(self, offsets: Offsets, membership: bytes | None) -> bool:
        """Whether the broker took the offsets, and all messages; only the offsets tell that it refuses them."""
        deadline = time.monotonic() + self._timeout / 2
        while self._send_offsets(offsets, membership) and time.monotonic() < deadline:
            self._deliver()
            if not len(self._live):
                return not self._doomed
        return False

    def _arrived(self) -> bool:
        """Waits for the messages; at one that is refused it ends, while the client would wait for those behind it."""
        deadline = time.monotonic() + self._timeout
        while len(self._live) and not self._doomed and time.monotonic() < deadline:
            self._served(lambda producer: producer.flush(REFUSAL))
            self._beat()
        return not self._doomed

    def _deliver(self) -> None:
        """Waits a moment for the messages to arrive."""
        self._served(lambda producer: producer.flush(DELIVERY))

    def _send_offsets(self, offsets: Offsets, membership: bytes | None) -> bool:
        """Whether the broker took the offsets; retried with the same arguments, as it must be."""
        if self.state is not State.OPEN or not offsets or min(offsets.values()) < 0 or not is_member(membership):
            return False
        places = [labelled(*partition, offset, self._topic_ids) for partition, offset in offsets.items()]
        verdict = self._insist(partial(self._live.send_offsets_to_transaction, places, membership, self._timeout / 2))
        if verdict in {Verdict.FATAL, Verdict.RETRY}:  # the coordinator does not answer: nor would it to an abort
            self._doubt()
        return verdict is None and not self._doomed

    def _end(self, call: Callable[[], object]) -> Verdict | None:
        """Ends the transaction, and finds out whether the client repeated a request of the end by itself."""
        verdict = self._insist(call)
        self._serve(0)
        if self._slow and not self._connections.shaken:
            self._connections.inquire(self._serve)
        return verdict

    def _insist(self, call: Callable[[], object]) -> Verdict | None:
        """Makes a call, again and again while it may be; None when it succeeded."""
        deadline = time.monotonic() + self._timeout
        while True:
            started = time.monotonic()
            try:
                bounded(call, self._timeout + GRACE, self._beat)
            except KafkaException as error:
                verdict = self._verdict(error)
                if verdict is not Verdict.RETRY or time.monotonic() > deadline:
                    return verdict
                self._connections.shaken = True
                self._serve(RETRY_PAUSE)
            else:
                return None
            finally:
                self._slow = self._slow or time.monotonic() - started > QUICK

    def _verdict(self, error: KafkaException) -> Verdict:
        fault: Fault = error.args[0]
        self.fault = fault
        if fault.code() in FENCED:
            self._note_fencing(fault)
        return classify(fault)

    def _note_fencing(self, fault: Fault) -> None:
        """Raises on a second fencing, unless the transaction was simply too old for the broker."""
        now = time.monotonic()
        if now - self._opened_at >= self._timeout and self.state is not State.DOUBTFUL:
            log.warning("transaction outlived the broker's patience", seconds=round(now - self._opened_at, 1))
            return
        if now - self._fenced_at < FENCED_TWICE:
            self._doubt()
            raise FencedError(
                f"transactional id {self._slot!r} was fenced twice within a minute ({fault.name()}): another worker "
                "runs with the same kafka.slot; give every worker its own, or stop the other one"
            )
        self._fenced_at = now

    def _on_error(self, fault: Fault) -> None:
        """A connection failed: an EndTxn in flight may have been sent twice."""
        self._connections.shaken = True
        self.fault = fault

    def _on_delivery(self, delivered: Delivered | None, fault: Fault | None, message: Any) -> None:
        if fault is not None and fault.code() in PURGED:
            return
        if fault is not None:
            self._doomed = True
            self.fault = fault
        if delivered:
            delivered(fault, message)

    def _unsent(self, error: KafkaException) -> Fault | None:
        """What becomes of the transaction when the client does not take a message; its fault if that is the message's."""
        fault: Fault = error.args[0]
        if blame(fault) is Blame.MESSAGE:
            return fault
        self._doomed = True
        # Of a state that takes no messages the offsets will say why.
        if fault.code() != Fault._STATE and self._verdict(error) is Verdict.FATAL:  # noqa: SLF001
            self._doubt()
        return None

    def _within_queue(self, send: Callable[[], None]) -> None:
        """Sends, and waits for room when the client's queue is full."""
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            try:
                send()
            except BufferError:
                self._beat()
                self._serve(QUEUE_WAIT)
            else:
                self._serve(0)
                return
        self._doomed = True

    def _serve(self, seconds: float) -> None:
        """Lets the client call back."""
        self._served(lambda producer: producer.poll(seconds))

    def _served(self, call: Callable[[Producer], object]) -> None:
        """A call that calls back; a fault that ended the producer is raised here first, and again by the next call."""
        try:
            if self._producer is not None:
                call(self._producer)
        except KafkaException as error:
            self._doomed = self._connections.shaken = True
            self.fault = error.args[0]

    def _look_back(self) -> bool:
        """Before the end of a transaction: whether a connection was lost since the last time."""
        self._serve(0)
        self._slow = False
        lost = self._connections.look_back()
        if lost:
            self.fault = self.fault or LOST
        return lost

    def _doubt(self) -> None:
        self._move(State.DOUBTFUL)
        self._discard()

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    @property
    def _live(self) -> Producer:
        assert self._producer is not None, "no producer: take_over() comes first"
        return self._producer

    def _require(self, state: State) -> None:
        if self.state is not state:
            raise RuntimeError(f"illegal move: the transaction is {self.state}, not {state}")

    def _move(self, state: State) -> None:
        if state not in MOVES[self.state]:
            raise RuntimeError(f"illegal move of the transaction: {self.state} -> {state}")
        self.state = state
