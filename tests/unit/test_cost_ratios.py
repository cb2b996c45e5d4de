"""What work on batches costs beside the same work record by record: ratios of processor time, never times."""

import time

import numpy as np
import orjson
import pytest
from small_models import correlated, numeric

from stream_detector.config import RecordConfig
from stream_detector.records import Decoder
from stream_detector.scoring.threshold import Limits, RollingThreshold

pytestmark = pytest.mark.thorough

BATCH = 2_048
X = correlated(BATCH, seed=5)
VALUES = [
    orjson.dumps({"id": f"r{at}", "features": {f"x{column}": float(value) for column, value in enumerate(row[:5])}})
    for at, row in enumerate(X)
]


def cost(call, rounds=25):
    """The least processor time of several calls."""
    call()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def in_turns(*calls, rounds=12, seconds=1.0):
    """The least processor time of each call, taken in turns and for a while, so that a noisy moment is all of theirs."""
    costs, until = [cost(call, 1) for call in calls], time.monotonic() + seconds
    while rounds > 0 or time.monotonic() < until:
        costs = [min(least, cost(call, 1)) for least, call in zip(costs, calls, strict=True)]
        rounds -= 1
    return costs


def score(rows):
    return lambda: numeric().score(X[:rows])


def explain(rows):
    return lambda: numeric().explain(X[:rows])


def decode(rows):
    return lambda: Decoder(RecordConfig()).decode(VALUES[:rows], numeric().schema)


def flag(rows):
    threshold = RollingThreshold(Limits(0.001, 10_000, 100, 3.0, 2.0, 4.0))
    threshold.learn(np.linspace(0, 3, 10_000).tolist())
    scores = np.linspace(0, 1.9, rows).tolist()
    return lambda: threshold.flag(scores)


@pytest.mark.parametrize(("work", "most"), [(score, 0.1), (explain, 0.25), (decode, 0.5)])
def test_a_batch_is_far_cheaper_than_its_records_one_by_one(work, most):
    """A record in a batch costs a small part of what it costs alone."""
    assert cost(work(1_024)) / 1_024 < most * cost(work(1), rounds=30)


@pytest.mark.parametrize("work", [score, explain, decode, flag])
def test_cost_grows_with_records_and_not_faster(work):
    """Eight times the records cost at most twelve times as much."""
    many, few = in_turns(work(BATCH), work(BATCH // 8))
    assert many < 12 * few


def test_the_threshold_costs_less_than_decoding():
    """Exact rolling quantiles, record by record, stay the smaller part of a record's cost."""
    assert cost(flag(BATCH)) < cost(decode(BATCH))
