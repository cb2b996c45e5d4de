"""The transaction's state machine, against a producer that fails in every way librdkafka can."""

import json
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError as Fault
from confluent_kafka import KafkaException
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.errors import FencedError
from stream_detector.kafka.faults import FaultClass, classify
from stream_detector.worker.output import producer as producer_module
from stream_detector.worker.output import transaction as transaction_module
from stream_detector.worker.output.producer import is_member
from stream_detector.worker.output.states import MOVES, State
from stream_detector.worker.output.transaction import Transaction

MEMBER = b"CGMDv2:" + struct.pack("=i", 3) + b"group\0member\0\1"
PLACE = ("telemetry", 0)

FINE = None
RETRIABLE = Fault(Fault._TIMED_OUT, "late", False, True, False)
ABORTABLE = Fault(Fault.ILLEGAL_GENERATION, "rebalanced", False, False, True)
FATAL = Fault(Fault.INVALID_TXN_STATE, "broken", True, False, False)
UNHEARD_OF = Fault(Fault._STATE, "none of the three", False, False, False)
FENCED = Fault(Fault._FENCED, "fenced", True, False, False)
FAULTS = (FINE, FINE, RETRIABLE, ABORTABLE, FATAL, UNHEARD_OF)


class Scripted:
    """A producer whose calls end as told; keeps what a broker would see of them."""

    def __init__(self, script, on_error, on_stats, events):
        self.script, self.on_error, self.on_stats, self.events = script, on_error, on_stats, events
        self.sent, self.written = [], []
        self.broken_during_commit = self.slow_offsets = False
        self.stuck = self.disconnects = 0
        self.partitions = (0, 1, 2)

    def _next(self, name):
        fault = self.script.pop(0) if self.script else FINE
        self.events.append((id(self), name, fault))
        if fault is not FINE:
            raise KafkaException(fault)

    def init_transactions(self, _timeout):
        self._next("init")

    def begin_transaction(self):
        self._next("begin")

    def list_topics(self, topic, _timeout):
        self._next("metadata")
        return SimpleNamespace(topics={topic: SimpleNamespace(topic=topic, partitions=dict.fromkeys(self.partitions))})

    def produce(self, topic, partition=-1, **_message):
        self.written.append((topic, partition))
        self._next("produce")

    def send_offsets_to_transaction(self, offsets, metadata, _timeout):
        self.sent.append(([(o.topic, o.partition, o.offset) for o in offsets], metadata))
        if self.slow_offsets:
            time.sleep(2 * producer_module.QUICK)
        self._next("offsets")

    def commit_transaction(self, _timeout):
        if self.broken_during_commit:
            self.on_error(Fault(Fault._TRANSPORT, "connection lost", False, True, False))
        self._next("commit")

    def abort_transaction(self, _timeout):
        self._next("abort")

    def poll(self, _timeout):
        self.on_stats(json.dumps({"brokers": {"one": {"disconnects": self.disconnects, "req_timeouts": 0}}}))
        return 0

    def flush(self, _timeout):
        self.events.append((id(self), "flush", FINE))
        return len(self)

    def __len__(self):
        return self.stuck

    def purge(self):
        pass


def transaction(script=(), timeout=0.0):
    """A transaction over scripted producers, all working off one script; and what was called."""
    events, producers, script = [], [], list(script)

    def connect(on_error, on_stats):
        producers.append(Scripted(script, on_error, on_stats, events))
        return producers[-1]

    made = Transaction(connect, timeout, "slot")
    made.events, made.producers = events, producers
    return made


def ready(script=(), timeout=0.0):
    made = transaction(timeout=timeout)
    assert made.take_over()
    made.producers[0].script.extend(script)
    return made


def opened(*script):
    made = ready((FINE, *script))
    made.begin()
    return made


STEPS = {
    "take_over": lambda t: t.take_over() if t.state is State.DOUBTFUL else None,
    "begin": lambda t: t.begin() if t.state is State.READY else None,
    "produce": lambda t: t.produce("alerts", b"k", b"v", []),
    "commit": lambda t: t.commit({PLACE: 5}, lambda: MEMBER),
    "abort": lambda t: t.abort(),
    "sweep": lambda t: t.sweep(["alerts"], {PLACE: 0}, lambda: MEMBER) if t.state is State.READY else None,
    "poll": lambda t: t.poll(),
    "retire": lambda t: t.retire(),
}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=40), st.lists(st.sampled_from(FAULTS), max_size=60))
def test_no_fault_leads_to_an_illegal_move(steps, script):
    """Whatever is called and however it fails, only legal moves are made, and `commit` is true only for a commit."""
    made = transaction(script)
    for step in steps:
        before = len(made.events)
        outcome = STEPS[step](made)
        calls = [(name, fault is FINE) for _, name, fault in made.events[before:]]
        if step == "commit" and outcome:
            assert calls[-1] == ("commit", True)
            assert ("offsets", True) in calls
        if step == "commit" and not outcome:
            assert ("commit", True) not in calls
        assert made.state in {State.READY, State.OPEN, State.DOUBTFUL}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=40), st.lists(st.sampled_from(FAULTS), max_size=60))
def test_a_producer_in_doubt_is_never_used_again(steps, script):
    """After a commit or abort whose end is uncertain, no transaction begins on the same producer."""
    made = transaction(script)
    for step in steps:
        STEPS[step](made)
    tainted = set()
    for producer, name, fault in made.events:
        assert not (name == "begin" and producer in tainted)
        if name in {"commit", "abort"} and fault is not FINE and classify(fault) is not FaultClass.ABORTABLE:
            tainted.add(producer)


def test_moves_lead_everywhere_and_never_out_of_closed():
    """From every state but CLOSED there is a way back to READY; from CLOSED there is none at all."""
    assert not MOVES[State.CLOSED]
    for state in set(State) - {State.CLOSED}:
        assert MOVES[state] & {State.READY, State.DOUBTFUL}


def test_the_offset_sent_is_the_next_to_read_and_the_metadata_is_asked_once():
    """Retries of the offsets repeat offsets and group metadata to the byte."""
    made = opened(RETRIABLE, RETRIABLE, RETRIABLE)
    made._timeout = 60.0
    asked = []
    assert made.commit({PLACE: 5}, lambda: asked.append(1) or MEMBER)
    assert made.producers[0].sent == [([("telemetry", 0, 5)], MEMBER)] * 4
    assert asked == [1]


@pytest.mark.parametrize(
    ("script", "done", "state"),
    [
        ((FINE, FINE), True, State.READY),
        ((ABORTABLE, FINE), False, State.READY),
        ((FATAL,), False, State.DOUBTFUL),
        ((RETRIABLE,), False, State.DOUBTFUL),
        ((UNHEARD_OF,), False, State.DOUBTFUL),
        ((FINE, ABORTABLE, FINE), False, State.READY),
        ((FINE, ABORTABLE, FATAL), False, State.DOUBTFUL),
        ((FINE, FATAL), False, State.DOUBTFUL),
        ((FINE, RETRIABLE), False, State.DOUBTFUL),
    ],
)
def test_each_outcome_of_a_commit_leads_where_it_must(script, done, state):
    """Committed goes on, aborted goes on, anything uncertain puts the producer in doubt."""
    made = opened(*script)
    made._timeout = -1.0  # no time left to retry in
    assert (made.commit({PLACE: 5}, lambda: MEMBER), made.state) == (done, state)


def test_a_commit_that_needed_a_retry_costs_the_producer():
    """A commit that succeeded at the second call is a commit, but its first request may still be on its way."""
    made = opened(FINE, RETRIABLE, FINE)
    made._timeout = 60.0
    assert made.commit({PLACE: 5}, lambda: MEMBER)
    assert made.state is State.DOUBTFUL


def test_a_connection_lost_during_a_commit_costs_the_producer():
    """The client repeats a commit by itself on another connection; the first may still be on its way."""
    made = opened()
    made.producers[0].broken_during_commit = True
    assert made.commit({PLACE: 5}, lambda: MEMBER)
    assert made.state is State.DOUBTFUL


def test_an_abort_after_offsets_that_failed_slowly_costs_the_producer_unless_statistics_clear_it(monkeypatch):
    """Such offsets may have been sent twice, and the lost request may come after the abort."""
    monkeypatch.setattr(producer_module, "STATS_WAIT", 0.0)
    made = opened(ABORTABLE)
    made.producers[0].slow_offsets = True
    assert not made.commit({PLACE: 5}, lambda: MEMBER)
    assert made.state is State.DOUBTFUL


def test_messages_go_ahead_of_the_offsets_when_the_last_commit_is_hardly_over(monkeypatch):
    """Offsets that come before the broker has ended the last transaction are asked for again only after 100 ms."""
    monkeypatch.setattr(transaction_module, "RECENT", 60.0)
    made = opened()
    for _ in range(2):
        assert made.commit({PLACE: 5}, lambda: MEMBER)
        made.begin()
    calls = [name for _, name, _ in made.events]
    assert calls == ["init", "begin", "offsets", "commit", "begin", "flush", "offsets", "commit", "begin"]


def test_what_connections_went_through_before_it_took_over_costs_nothing():
    """The address that a client begins with is given up once the brokers are known: that is no lost connection."""
    made = transaction()
    connect = made._producer._connect

    def bumpy(on_error, on_stats):
        producer = connect(on_error, on_stats)
        producer.disconnects = 3
        return producer

    made._producer._connect = bumpy
    assert made.take_over()
    made.begin()
    assert made.commit({PLACE: 5}, lambda: MEMBER)
    assert made.state is State.READY
    assert len(made.producers) == 1


@pytest.mark.parametrize("end", ["abort", "sweep"])
def test_a_connection_lost_before_an_abort_is_its_cause(end):
    """Not only a commit: whatever ends without success because a connection was lost says so."""
    made = ready(timeout=60.0)
    if end == "abort":
        made.begin()
    made.producers[0].disconnects += 1
    made._ended_at = time.monotonic()
    assert not STEPS[end](made)
    assert made.state is State.DOUBTFUL
    assert "connection was lost" in made.fault.str()


def test_a_sweep_writes_to_every_partition_and_takes_it_back():
    """What a predecessor left is ended by an abort that covers all topics and the group, never by a commit."""
    made = ready(timeout=60.0)
    assert made.sweep(["alerts", "letters"], {PLACE: 0}, lambda: MEMBER)
    assert made.producers[0].written == [(topic, at) for topic in ("alerts", "letters") for at in range(3)]
    calls = [name for _, name, _ in made.events if name != "produce"]
    assert calls == ["init", "metadata", "metadata", "begin", "offsets", "flush", "abort"]
    assert made.state is State.READY


def swept(*script, timeout=60.0, **producer):
    made = ready(script, timeout=timeout)
    vars(made.producers[0]).update(producer)
    return made.sweep(["alerts"], {PLACE: 0}, lambda: MEMBER)


def test_a_sweep_that_fails_is_not_done():
    """A sweep counts only when all messages arrived, the offsets were taken and the abort is certain."""
    before = [FINE] * 5  # metadata, begin, three messages
    assert swept()
    assert not swept(FINE, ABORTABLE)
    assert not swept(FINE, FINE, FINE, ABORTABLE)
    assert not swept(stuck=1, timeout=0.1)
    assert not swept(*before, ABORTABLE)
    assert not swept(*before, FINE, FATAL)
    assert not ready().sweep(["alerts"], {PLACE: 0}, lambda: None)


def test_a_topic_that_is_not_there_is_written_to_all_the_same():
    """The client tells of a topic it does not know by the fate of a message to it."""
    made = ready(timeout=60.0)
    made.producers[0].partitions = ()
    made.sweep(["gone"], {PLACE: 0}, lambda: MEMBER)
    assert made.producers[0].written == [("gone", -1)]


def test_the_cause_of_a_failure_is_not_hidden_by_what_follows_from_it():
    """A transaction that failed already takes no message, and its abort may fail, too; the offsets tell why."""
    made = ready(timeout=60.0)
    denied = Fault(Fault.TOPIC_AUTHORIZATION_FAILED, "denied", False, False, True)
    made.producers[0].script.extend([FINE, FINE, UNHEARD_OF, denied, FATAL])  # metadata, begin, message, offsets, abort
    assert not made.sweep(["alerts"], {PLACE: 0}, lambda: MEMBER)
    assert made.fault is denied


def test_a_producer_that_is_not_ready_yet_is_asked_again():
    """Taking over goes on where it was, with the same producer."""
    made = transaction([RETRIABLE, FINE])
    assert not made.take_over()
    assert made.take_over()
    assert len(made.producers) == 1


def test_a_producer_that_lost_a_connection_at_rest_retires_before_the_next_transaction(monkeypatch):
    """Nothing has to be aborted then; without a loss it stays, and what was lost after a minute's rest is no matter."""
    made = ready()
    made.begin()
    assert made.commit({PLACE: 5}, lambda: MEMBER)
    assert not made.retire()
    made.producers[0].disconnects = 1
    made.poll()
    monkeypatch.setattr(transaction_module, "SETTLED", 0.0)
    assert not made.retire()
    monkeypatch.setattr(transaction_module, "SETTLED", 60.0)
    assert made.retire()
    assert made.state is State.DOUBTFUL
    assert made.take_over()
    assert not made.retire()
    assert "abort" not in [name for _, name, _ in made.events]


def test_a_producer_retires_after_a_long_rest_and_never_within_a_transaction(monkeypatch):
    """Before the broker forgets it; an open transaction is left to its end."""
    made = ready()
    assert not made.retire()
    monkeypatch.setattr(transaction_module, "LONG_REST", 0.0)
    made.begin()
    assert not made.retire()
    made.abort()
    assert made.retire()


def test_a_connection_lost_since_the_last_commit_costs_the_transaction_and_the_producer():
    """The broker may have left out markers of the last transaction, and this one's would take their place."""
    made = opened()
    assert made.commit({PLACE: 5}, lambda: MEMBER)
    made.begin()
    made.producers[0].disconnects += 1
    assert not made.commit({PLACE: 9}, lambda: MEMBER)
    assert [name for _, name, _ in made.events][-1] == "abort"
    assert made.state is State.DOUBTFUL
    assert "connection was lost" in made.fault.str()


def test_a_connection_closed_after_a_long_silence_costs_nothing(monkeypatch):
    """Brokers close idle connections; by then the markers of the last transaction are long written."""
    made = opened()
    assert made.commit({PLACE: 5}, lambda: MEMBER)
    monkeypatch.setattr(transaction_module, "SETTLED", 0.0)
    made.producers[0].disconnects += 1
    made.poll()
    made.begin()
    assert made.commit({PLACE: 9}, lambda: MEMBER)
    assert made.state is State.READY


def test_a_refused_message_dooms_its_transaction():
    """A delivery failure noticed at any time aborts the transaction, though the commit itself would succeed."""
    made = opened()
    made._producer._on_delivery(None, Fault(Fault.TOPIC_AUTHORIZATION_FAILED), None)
    assert not made.commit({PLACE: 5}, lambda: MEMBER)
    assert [name for _, name, _ in made.events][-1] == "abort"


@pytest.mark.parametrize("code", [Fault._PURGE_QUEUE, Fault._PURGE_INFLIGHT])
def test_what_an_abort_purged_is_no_failure(code):
    """Delivery reports of purged messages do not doom the next transaction."""
    made = opened()
    made._producer._on_delivery(None, Fault(code), None)
    assert made.commit({PLACE: 5}, lambda: MEMBER)


@pytest.mark.parametrize(
    "membership",
    [None, b"", b"CGMDv2:" + struct.pack("=i", -1) + b"g\0\0\1", b"CGMDv2:" + struct.pack("=i", 4) + b"g\0\0\1"],
)
def test_nothing_is_committed_without_membership(membership):
    """The broker accepts offsets of generation -1 unchecked, so they are never sent."""
    made = opened()
    assert not made.commit({PLACE: 5}, lambda: membership)
    assert made.producers[0].sent == []


@given(st.binary(max_size=60))
def test_foreign_group_metadata_is_let_pass(rest):
    """Metadata in another form than the known one is not judged, and never an exception."""
    assert is_member(b"CGMDv9:" + rest)
    assert is_member(b"CGMDv2:" + rest) in {True, False}


def test_one_thread_at_a_time_uses_a_transaction_and_another_one_after_it():
    """A commit may be lent to another thread; whoever comes before it has ended is told so, and changes nothing."""
    made = opened()
    asked, go_on = Event(), Event()

    def membership():
        asked.set()
        assert go_on.wait(30)
        return MEMBER

    with ThreadPoolExecutor(1) as other:
        committing = other.submit(made.commit, {PLACE: 5}, membership)
        assert asked.wait(30)
        called = len(made.events)
        for step in sorted(set(STEPS) - {"take_over", "begin", "sweep"}):
            with pytest.raises(RuntimeError, match="another thread"):
                STEPS[step](made)
        assert (made.state, len(made.events)) == (State.OPEN, called)
        go_on.set()
        assert committing.result()
    made.begin()
    assert made.commit({PLACE: 9}, lambda: MEMBER)


def test_fenced_twice_in_a_minute_is_another_worker():
    """The first fencing is answered by a new producer, a second one soon after by an error that names the slot."""
    made = opened(FENCED)
    made._timeout = 60.0
    made.commit({PLACE: 5}, lambda: MEMBER)
    assert made.state is State.DOUBTFUL
    assert made.take_over()
    made.begin()
    made.producers[1].script.append(FENCED)
    with pytest.raises(FencedError, match=r"'slot'.*kafka\.slot"):
        made.commit({PLACE: 5}, lambda: MEMBER)


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (Fault(Fault._FENCED, "", True, True, True), FaultClass.FATAL),
        (Fault(Fault._FENCED, "", False, True, True), FaultClass.ABORTABLE),
        (RETRIABLE, FaultClass.RETRIABLE),
        (UNHEARD_OF, FaultClass.FATAL),
    ],
)
def test_the_gravest_reading_of_a_fault_wins(fault, verdict):
    """Fatal before abortable before retriable; what is none of them is fatal."""
    assert classify(fault) is verdict
