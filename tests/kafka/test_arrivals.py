"""How much telemetry has come since a moment: counted in records, whatever a message holds."""

import json
import time

from formats import batch
from workload import feed, telemetry

from stream_detector.retraining.telemetry_window import ArrivalCounter


def batches(count, rows=200, seed=0):
    """Arrow batches of so many records each."""
    records = [json.loads(value) for value in telemetry(count * rows, seed=seed, anomalies=0.0)]
    return [batch(records[first : first + rows]) for first in range(0, count * rows, rows)]


def test_records_are_counted_where_a_message_holds_many(make_config):
    """Ten batches of 200 are 2,000, not ten; what is counted is not read again, and what comes is counted on."""
    config = make_config(record={"format": "arrow"})
    arrivals = ArrivalCounter(config, 0)
    assert not arrivals.reach(1)
    feed(config, batches(10))

    assert arrivals.reach(2_000)
    assert not arrivals.reach(2_001)
    feed(config, batches(1, seed=1))
    assert arrivals.reach(2_200)
    assert not arrivals.reach(2_201)


def test_only_what_came_since_counts(make_config):
    """In both kinds of messages, what is older is not in it."""
    now = round(1000 * time.time())
    for kind, values, each in (("arrow", batches(4), 200), ("json", list(telemetry(4)), 1)):
        config = make_config(record={"format": kind})
        feed(config, values[:3], timestamp=now - 60_000)
        feed(config, values[3:], timestamp=now)
        arrivals = ArrivalCounter(config, now - 1_000)

        assert arrivals.reach(each)
        assert not arrivals.reach(each + 1)
