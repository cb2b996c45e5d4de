"""Work that fails is tried again with growing pauses, within a budget of time."""

from threading import Event

import pytest

from stream_detector.errors import AuthorizationError, KafkaError
from stream_detector.kafka import retry as retry_module
from stream_detector.kafka.retry import Retry

BUDGET = 30.0  # seconds
DOWN, DENIED = KafkaError("the broker is away"), AuthorizationError("no right to read")


@pytest.fixture
def clock(monkeypatch):
    """The time, in a list of one, that a test moves."""
    now = [1_000.0]
    monkeypatch.setattr(retry_module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def told():
    return []


@pytest.fixture
def retry(told):
    return Retry("reading", BUDGET, told.append)


def test_a_failure_is_told_until_the_work_succeeds(clock, retry, told):
    """It fails and waits after a failure, waits no longer than its pause, and is as new after a success."""
    assert not retry.failing
    retry.failed(DOWN)
    assert retry.failing
    assert retry.waiting
    clock[0] += retry_module.LONGEST_PAUSE
    assert retry.failing
    assert not retry.waiting
    retry.succeeded()
    assert not retry.failing
    assert told == ["reading: the broker is away", None]
    retry.succeeded()
    assert len(told) == 2


def test_pauses_grow_to_a_longest_one(clock, retry):
    """From one failure to the next the pause doubles, as far as it may."""
    pauses = []
    for _ in range(8):
        retry.failed(DOWN)
        before = clock[0]
        while retry.waiting:
            clock[0] += 0.01
        pauses.append(clock[0] - before)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(retry_module.LONGEST_PAUSE, abs=0.02)
    assert pauses[0] < pauses[-1] / 4


def test_failures_for_longer_than_the_budget_end_the_work(clock, retry):
    """Each failure within the budget is borne; the first one after it is raised, and a success begins a new budget."""
    for _ in range(2):
        begun = clock[0]
        while clock[0] < begun + BUDGET:
            retry.failed(DOWN)
            clock[0] += 1.0
        retry.succeeded()
    retry.failed(DOWN)
    clock[0] += BUDGET + 0.1
    with pytest.raises(KafkaError, match="away"):
        retry.failed(DOWN)


def test_a_permission_that_is_missing_is_not_waited_for(clock, retry):
    """The third denial in a row ends the work, though other work that is permitted succeeded in between."""
    retry.failed(DENIED)
    retry.failed(DOWN)
    retry.failed(DENIED)
    retry.succeeded()
    retry.failed(DENIED)
    clock[0] += 0.1
    with pytest.raises(AuthorizationError):
        retry.failed(DENIED)


def test_an_attempt_is_made_until_it_succeeds_or_fails_otherwise(clock, retry):
    """Kafka's errors are retried, any other comes out at once, and nothing is tried once told to stop."""
    outcomes = [DOWN, DOWN, 5]

    def attempt():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    stop = Event()
    assert retry.run(attempt, stop) == 5
    outcomes[:] = [ValueError("ours")]
    with pytest.raises(ValueError, match="ours"):
        retry.run(attempt, stop)
    stop.set()
    assert retry.run(attempt, stop) is None
