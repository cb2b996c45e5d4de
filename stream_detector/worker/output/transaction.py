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
from functools import partial
from math import inf

import structlog
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException

from stream_detector.errors import FencedError
from stream_detector.kafka.bounded import bounded
from stream_detector.kafka.connections import is_member
from stream_detector.kafka.faults import FENCED, Blame, Verdict, blame, classify
from stream_detector.kafka.identity import TopicIds, labelled
from stream_detector.records import Header, TopicPartition
from stream_detector.worker.output.producer import ANY, NO_TIME, Connect, Delivered, TransactionalClient
from stream_detector.worker.output.standing import Standing, State

__all__ = ["Offsets", "Transaction"]

Offsets = Mapping[TopicPartition, int]

FENCED_TWICE = 60.0  # seconds; two fencings within them are no accident
INIT_SLICE = 2.0  # seconds that one attempt to take over may block
RETRY_PAUSE = 0.05  # seconds; most retriable calls have waited long enough themselves
GRACE = 5.0  # seconds beyond its own time limit that a call of the client may take
QUICK = 0.05  # seconds; the client repeats a request that got no answer later than this
RECENT = 0.02  # seconds after a commit in which the broker may still be writing its markers
SETTLED = 60.0  # seconds after a commit in which the broker has written its markers, whatever it went through
LONG_REST = 3_600.0  # seconds; brokers forget transactional ids after days, unless told otherwise
SWEEP = b"stream-detector.sweep"  # the key of messages that are only written to be aborted

log = structlog.get_logger(__name__)


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
        self._standing = Standing()
        self._client = TransactionalClient(connect, beat)
        self._timeout = timeout
        self._slot = slot
        self._beat = beat
        self._topic_ids = {} if topic_ids is None else topic_ids
        self._slow = False
        self._opened_at = 0.0
        self._ended_at = self._ready_at = -inf
        self._fenced_at = -FENCED_TWICE

    @property
    def state(self) -> State:
        """Where the producer stands."""
        return self._standing.state

    @property
    def fault(self) -> Fault | None:
        """The last fault that the client told, or that ended a transaction."""
        return self._client.fault

    def take_over(self) -> bool:
        """Leaves DOUBTFUL by a new producer; False when that did not succeed yet, to be tried again.

        Blocks at most about 2 s. Raises `FencedError` when the producer was fenced twice in a minute.
        """
        try:
            self._client.connect().init_transactions(INIT_SLICE)
        except KafkaException as error:
            if self._verdict(error) is not Verdict.RETRY:
                self._client.discard()
            return False
        self._client.connections.renew()
        self._look_back()
        self._ready_at = time.monotonic()
        self._standing.move(State.READY)
        return True

    def retire(self) -> bool:
        """READY -> DOUBTFUL when connections were lost while nothing was to do, or after a long rest; whether so.

        To be done between transactions, so that the next one need not find out, and be aborted; and
        before the broker forgets a producer that writes nothing.
        """
        if self.state is not State.READY:
            return False
        rest = time.monotonic() - max(self._ended_at, self._ready_at)
        retired = (
            self._client.connections.shaken
            or rest > LONG_REST
            or (rest < SETTLED and self._client.connections.were_lost())
        )
        if retired:
            self._doubt()
        return retired

    def attend(self) -> None:
        """Lets the client call back; to be done ever and again, for what it has to tell is kept until then."""
        self._client.serve(0)

    def begin(self) -> None:
        """READY -> OPEN, or DOUBTFUL when the connection did not last."""
        self._standing.require(State.READY)
        self._client.serve(0)
        if self._client.connections.shaken:
            # The brokers were away meanwhile, and the client may hold on to a coordinator that is gone.
            self._doubt()
            return
        self._client.doomed, self._client.fault = False, None
        self._opened_at = time.monotonic()
        if self._opened_at - self._ended_at > SETTLED:
            self._client.connections.forgive()
        try:
            self._client.live.begin_transaction()
        except KafkaException as error:
            self._verdict(error)
            self._doubt()
        else:
            self._standing.move(State.OPEN)

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
        if self.state is not State.OPEN or self._client.doomed:
            return None
        try:
            self._client.send(topic, key, value, headers, timestamp_ms, delivered, partition, self._timeout)
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
            self._client.deliver()
        if (
            self._look_back()
            or not self._send_offsets(offsets, membership())
            or not self._client.have_arrived(self._timeout)
        ):
            self._roll_back()
            return False
        self._standing.move(State.COMMITTING)
        verdict = self._end(partial(self._client.live.commit_transaction, self._timeout))
        if verdict is Verdict.ABORT:
            self._roll_back()
        elif verdict or self._client.connections.shaken:
            self._doubt()
        else:
            self._standing.move(State.READY)
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
        try:
            places = self._client.places(topics, self._timeout / 2)
        except KafkaException as error:
            self._verdict(error)
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
        self._client.discard()
        self._standing.move(State.CLOSED)

    def _roll_back(self) -> None:
        if self.state not in {State.OPEN, State.COMMITTING}:
            return
        self._standing.move(State.ABORTING)
        cause = self._client.fault
        verdict = self._end(partial(self._client.live.abort_transaction, self._timeout))
        self._client.fault = cause or self._client.fault
        if verdict or self._client.connections.shaken:
            self._doubt()
        else:
            self._client.serve(0)  # the reports of what was purged, before the next transaction counts its own
            self._standing.move(State.READY)

    def _fill(self, offsets: Offsets, membership: bytes | None) -> bool:
        """Whether the broker took the offsets, and all messages; only the offsets tell that it refuses them."""
        deadline = time.monotonic() + self._timeout / 2
        while self._send_offsets(offsets, membership) and time.monotonic() < deadline:
            self._client.deliver()
            if not len(self._client.live):
                return not self._client.doomed
        return False

    def _send_offsets(self, offsets: Offsets, membership: bytes | None) -> bool:
        """Whether the broker took the offsets; retried with the same arguments, as it must be."""
        if self.state is not State.OPEN or not offsets or min(offsets.values()) < 0 or not is_member(membership):
            return False
        places = [labelled(*partition, offset, self._topic_ids) for partition, offset in offsets.items()]
        verdict = self._insist(
            partial(self._client.live.send_offsets_to_transaction, places, membership, self._timeout / 2)
        )
        if verdict in {Verdict.FATAL, Verdict.RETRY}:  # the coordinator does not answer: nor would it to an abort
            self._doubt()
        return verdict is None and not self._client.doomed

    def _end(self, call: Callable[[], object]) -> Verdict | None:
        """Ends the transaction, and finds out whether the client repeated a request of the end by itself."""
        verdict = self._insist(call)
        self._client.serve(0)
        if self._slow and not self._client.connections.shaken:
            self._client.connections.inquire(self._client.serve)
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
                self._client.connections.shaken = True
                self._client.serve(RETRY_PAUSE)
            else:
                return None
            finally:
                self._slow = self._slow or time.monotonic() - started > QUICK

    def _verdict(self, error: KafkaException) -> Verdict:
        fault: Fault = error.args[0]
        self._client.fault = fault
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

    def _unsent(self, error: KafkaException) -> Fault | None:
        """What becomes of the transaction when the client does not take a message; its fault if that is the message's."""
        fault: Fault = error.args[0]
        if blame(fault) is Blame.MESSAGE:
            return fault
        self._client.doomed = True
        # Of a state that takes no messages the offsets will say why.
        if fault.code() != Fault._STATE and self._verdict(error) is Verdict.FATAL:  # noqa: SLF001
            self._doubt()
        return None

    def _look_back(self) -> bool:
        """Before the end of a transaction: whether a connection was lost since the last time."""
        self._slow = False
        return self._client.look_back()

    def _doubt(self) -> None:
        self._standing.move(State.DOUBTFUL)
        self._client.discard()
