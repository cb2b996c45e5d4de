"""Runs one Kafka transaction after another, as a state machine around the transactional producer.

    DOUBTFUL -> READY -> OPEN -> COMMITTING -> READY     committed
                         OPEN, COMMITTING -> ABORTING -> READY     aborted
    and from anywhere back to DOUBTFUL when an outcome is not certain.

A producer in doubt may still have a commit or abort on its way that would end the *next*
transaction (the client does not speak KIP-890). So it is never used again: another one with the
same transactional id takes over, which ends whatever was open and fences what is still in flight.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from math import inf
from threading import RLock
from typing import Any, TypeVar, cast

import structlog
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException

from stream_detector.errors import FencedError
from stream_detector.kafka.faults import FENCED, Blame, FaultClass, blame, classify
from stream_detector.kafka.group import Beside
from stream_detector.records import Header, TopicPartition
from stream_detector.worker.output.producer import ANY, NO_TIME, Connect, Delivered, TransactionalProducer, is_member
from stream_detector.worker.output.states import MOVES, State

__all__ = ["Offsets", "Transaction", "exclusive"]

Offsets = Mapping[TopicPartition, int]
Method = TypeVar("Method", bound=Callable[..., Any])

FENCED_TWICE = 60.0  # seconds; two fencings within them are no accident
INIT_SLICE = 2.0  # seconds that one attempt to take over may block
RECENT = 0.02  # seconds after a commit in which the broker may still be writing its markers
SETTLED = 60.0  # seconds after a commit in which the broker has written its markers, whatever it went through
LONG_REST = 3_600.0  # seconds; brokers forget transactional ids after days, unless told otherwise
SWEEP = b"stream-detector.sweep"  # the key of messages that are only written to be aborted

log = structlog.get_logger(__name__)


def exclusive(method: Method) -> Method:
    """Has a method raise `RuntimeError` in a thread that comes while another holds the object's lock, `_inside`."""

    @wraps(method)
    def guarded(self: Any, *args: Any, **named: Any) -> Any:
        if not self._inside.acquire(blocking=False):
            raise RuntimeError(f"{method.__qualname__}() was called while another thread uses it")
        try:
            return method(self, *args, **named)
        finally:
            self._inside.release()

    return cast("Method", guarded)


class Transaction:
    """Runs the transactions of one worker, one after another.

    One thread at a time may use it: one that comes while another is inside gets a `RuntimeError`. Between two calls it
    may be handed to another thread, as the worker's loop does for a commit whose end it waits for; `state`, `fault` and
    `age` are for the thread that has it.

    `connect` makes a producer that reports connection faults and statistics to the callbacks given. `timeout` is the
    broker's transaction timeout, seconds; `beat` is called while the client waits; what `beside` tells is committed beside
    a partition's offset. Faults of Kafka turn up as `state` and `fault`, the last one; only `FencedError` is raised.
    """

    def __init__(
        self,
        connect: Connect,
        timeout: float,
        slot: str,
        beat: Callable[[], None] = lambda: None,
        beside: Beside = lambda _: "",
    ) -> None:
        self.state = State.DOUBTFUL
        self._inside = RLock()
        self._producer = TransactionalProducer(connect, beat, beside)
        self._timeout = timeout
        self._slot = slot
        self._opened_at = 0.0
        self._ended_at = self._ready_at = -inf
        self._fenced_at = -FENCED_TWICE

    @property
    def fault(self) -> Fault | None:
        """Gives the last fault that the client reported, or that ended a transaction."""
        return self._producer.fault

    @property
    def age(self) -> float:
        """Gives the seconds since the open transaction began; 0 without one."""
        return time.monotonic() - self._opened_at if self.state is State.OPEN else 0.0

    @exclusive
    def take_over(self) -> bool:
        """Leaves DOUBTFUL by a new producer; False when that did not succeed yet, to be tried again.

        Blocks at most about 2 s. Raises `FencedError` when the producer was fenced twice in a minute.
        """
        try:
            self._producer.start(INIT_SLICE)
        except KafkaException as error:
            if self._class_of(error) is not FaultClass.RETRIABLE:
                self._producer.discard()
            return False
        self._ready_at = time.monotonic()
        self._move(State.READY)
        return True

    @exclusive
    def retire(self) -> bool:
        """Moves READY -> DOUBTFUL when connections were lost at rest, or after a long rest; tells whether it did.

        The next transaction would be aborted otherwise, or the broker forget a producer that writes nothing.
        """
        rest, connections = time.monotonic() - max(self._ended_at, self._ready_at), self._producer.connections
        retired = self.state is State.READY and (
            connections.lost or rest > LONG_REST or (rest < SETTLED and connections.lost_since_check())
        )
        if retired:
            self._doubt()
        return retired

    @exclusive
    def poll(self) -> None:
        """Lets the client call back, and deliver what it keeps until then; to be called often."""
        self._producer.poll(0)

    @exclusive
    def begin(self) -> None:
        """Moves READY -> OPEN, or DOUBTFUL when the connection did not last."""
        if self.state is not State.READY:
            raise RuntimeError(f"illegal move: the transaction is {self.state}, not {State.READY}")
        self._producer.poll(0)
        if self._producer.connections.lost:
            # The brokers were away meanwhile, and the client may hold on to a coordinator that is gone.
            self._doubt()
            return
        self._producer.doomed, self._producer.fault = False, None
        self._opened_at = time.monotonic()
        if self._opened_at - self._ended_at > SETTLED:
            self._producer.connections.reset()
        try:
            self._producer.live.begin_transaction()
        except KafkaException as error:
            self._class_of(error)
            self._doubt()
        else:
            self._move(State.OPEN)

    @exclusive
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

        The fault is returned of a message that the client refuses as it is; the transaction goes on then.
        `timestamp_ms` 0 is now. `delivered` is told the message's own outcome, from a later call.
        """
        if self.state is not State.OPEN or self._producer.doomed:
            return None
        try:
            self._producer.send(topic, key, value, headers, timestamp_ms, delivered, partition, self._timeout)
        except KafkaException as error:
            return self._unsent(error)
        return None

    @exclusive
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
            self._producer.deliver()
        if (
            self._producer.check_connections()
            or not self._send_offsets(offsets, membership())
            or not self._producer.await_arrival(self._timeout)
        ):
            self._roll_back()
            return False
        self._move(State.COMMITTING)
        failure = self._end(partial(self._producer.live.commit_transaction, self._timeout))
        if failure is FaultClass.ABORTABLE:
            self._roll_back()
        elif failure or self._producer.connections.lost:
            self._doubt()
        else:
            self._move(State.READY)
        self._ended_at = time.monotonic()
        return failure is None

    @exclusive
    def sweep(
        self,
        topics: Sequence[str],
        offsets: Offsets,
        membership: Callable[[], bytes | None],
        delivered: Delivered | None = None,
    ) -> bool:
        """Writes to every partition of `topics` and to the group, and aborts that; whether it went well.

        Each new producer does it once, READY, before it commits. Its markers end what is left of the producer before
        it, which this one's first commit would commit: offsets that reached the group's coordinator only after their
        transaction was ended, and messages whose marker was never written, because a broker that comes back passes
        over partitions without a leader (KAFKA-20734). `delivered` is told of each message.
        """
        try:
            partitions = self._producer.partitions(topics, self._timeout / 2)
        except KafkaException as error:
            self._class_of(error)
            return False
        self.begin()
        self._producer.check_connections()
        for topic, partition in partitions:
            self.produce(topic, SWEEP, None, [], NO_TIME, delivered=delivered, partition=partition)
        done = self._fill(offsets, membership())
        self._roll_back()
        return done and self.state is State.READY

    @exclusive
    def abort(self) -> None:
        """Moves OPEN -> READY, or DOUBTFUL when the abort itself is in doubt; does nothing in any other state."""
        if self.state is State.OPEN:
            self._producer.check_connections()
            self._roll_back()

    @exclusive
    def give_up(self) -> None:
        """Moves READY -> DOUBTFUL, to go on with another producer."""
        if self.state is State.READY:
            self._doubt()

    @exclusive
    def close(self) -> None:
        """Aborts what is open and lets the producer go."""
        self.abort()
        self._producer.discard()
        self._move(State.CLOSED)

    def _roll_back(self) -> None:
        if self.state not in {State.OPEN, State.COMMITTING}:
            return
        self._move(State.ABORTING)
        cause = self._producer.fault
        failure = self._end(partial(self._producer.live.abort_transaction, self._timeout))
        self._producer.fault = cause or self._producer.fault
        if failure or self._producer.connections.lost:
            self._doubt()
        else:
            self._producer.poll(0)  # the reports of what was purged, before the next transaction counts its own
            self._move(State.READY)

    def _fill(self, offsets: Offsets, membership: bytes | None) -> bool:
        """Tells whether the broker took offsets and messages; only the offsets show that it refuses them."""
        deadline = time.monotonic() + self._timeout / 2
        while self._send_offsets(offsets, membership) and time.monotonic() < deadline:
            self._producer.deliver()
            if not len(self._producer.live):
                return not self._producer.doomed
        return False

    def _send_offsets(self, offsets: Offsets, membership: bytes | None) -> bool:
        """Sends the offsets, retried with the same arguments, as it must be; tells whether the broker took them."""
        if self.state is not State.OPEN or not offsets or min(offsets.values()) < 0 or not is_member(membership):
            return False
        failure = self._attempt(partial(self._producer.send_offsets, offsets, membership, self._timeout))
        if failure in {
            FaultClass.FATAL,
            FaultClass.RETRIABLE,
        }:  # the coordinator does not answer: nor would it to an abort
            self._doubt()
        return failure is None and not self._producer.doomed

    def _end(self, call: Callable[[], object]) -> FaultClass | None:
        """Ends the transaction by a call, and finds out whether the client repeated it by itself."""
        failure = self._attempt(partial(self._producer.retried, call, self._timeout))
        self._producer.check_repetition()
        return failure

    def _attempt(self, call: Callable[[], object]) -> FaultClass | None:
        """Makes a call; gives the class of its fault, None when it succeeded."""
        try:
            call()
        except KafkaException as error:
            return self._class_of(error)
        return None

    def _class_of(self, error: KafkaException) -> FaultClass:
        """Keeps the fault as the last one, and classifies it."""
        fault: Fault = error.args[0]
        self._producer.fault = fault
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
        """Dooms the transaction when the client does not take a message; gives the fault instead if it is the message's."""
        fault: Fault = error.args[0]
        if blame(fault) is Blame.MESSAGE:
            return fault
        self._producer.doomed = True
        # Of a state that takes no messages the offsets will say why.
        if fault.code() != Fault._STATE and self._class_of(error) is FaultClass.FATAL:  # noqa: SLF001
            self._doubt()
        return None

    def _doubt(self) -> None:
        self._move(State.DOUBTFUL)
        self._producer.discard()

    def _move(self, state: State) -> None:
        """Changes the state; raises `RuntimeError` when the move is not legal."""
        if state not in MOVES[self.state]:
            raise RuntimeError(f"illegal move of the transaction: {self.state} -> {state}")
        self.state = state
