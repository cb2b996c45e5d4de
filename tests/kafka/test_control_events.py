"""What workers say about a stream that changes for good."""

import json
import random

import pytest
from workload import (
    THRESHOLD,
    Running,
    committed,
    ends,
    everything,
    feed,
    fresh_config,
    slotted,
    small_model,
    telemetry,
)

from stream_detector.errors import TopicMissingError
from stream_detector.records.control_events import ControlEvent
from stream_detector.worker import loop


@pytest.fixture(scope="module")
def values():
    """Telemetry of which, from the middle on, every record takes longer than any did before."""
    rng = random.Random(0)
    good = list(telemetry(20_000, seed=7, anomalies=0.01))
    for at in range(12_000, 20_000):
        record = json.loads(good[at])
        record["features"]["latency"] += rng.gauss(20, 2)
        good[at] = json.dumps(record).encode()
    return good


def noticed(config):
    return [ControlEvent.from_json(message.value()) for message in everything(config, config.topics.control)]


def run(broker, values, batch):
    config = fresh_config(broker, threshold=THRESHOLD, drift={"cooldown": 1_000_000})
    feed(config, values)
    with Running(slotted(config, "a", batch_records=batch), small_model(), until_end=True) as running:
        running.join()
    assert committed(config) == ends(config)
    return config, running.summary


def test_a_change_for_good_is_reported_once_a_partition(broker, values):
    """Each partition reports drift, and the change of regime, once, soon after it came; batches do not matter."""
    found = {}
    for batch in (400, 5_000):
        config, summary = run(broker, values, batch)
        events = noticed(config)
        assert summary.control_events == len(events)
        assert {event.model for event in events} == {small_model().version}
        assert {event.topic for event in events} == set(config.topics.telemetry)
        found[batch] = sorted((e.kind, e.partition, e.offset, e.detector, e.stream, e.features) for e in events)
    assert found[400] == found[5_000]
    for kind in ("drift", "regime-change"):
        here = [event for event in found[400] if event[0] == kind]
        assert [event[1] for event in here] == [0, 1, 2]
        assert all(4_000 <= event[2] < 6_500 for event in here)
    assert all("latency high" in event[-1] for event in found[400] if event[0] == "regime-change")


def test_a_stream_that_stays_reports_nothing(broker, values):
    """Normal telemetry with its anomalies gives alerts and no report."""
    config, summary = run(broker, values[:12_000], 5_000)
    assert summary.flagged > 50
    assert noticed(config) == []


def test_a_missing_control_topic_is_named_unless_drift_is_off(broker):
    """Without the topic a worker ends with its name; with `drift.enabled: false` it does not ask for it."""
    config = fresh_config(broker, worker={"unavailable_timeout_ms": 1_000})
    gone = config.model_copy(update={"topics": config.topics.model_copy(update={"control": "no-such-control"})})
    with pytest.raises(TopicMissingError, match="no-such-control"):
        loop.run(gone, small_model)
    off = gone.model_copy(update={"drift": gone.drift.model_copy(update={"enabled": False})})
    assert loop.run(off, small_model, until_end=True).records == 0
