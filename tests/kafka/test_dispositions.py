"""The bookkeeping of the drift benchmark finds what a faulty detector would leave behind."""

from dataclasses import replace

import pytest
from workload import THRESHOLD, Running, feed, fresh_config, small_model, telemetry, with_alerts

from benchmarks.drift.dispositions import dispositions
from stream_detector.audit import alerts_topic
from stream_detector.kafka import topics
from stream_detector.registry import store

RECORDS = 900


@pytest.fixture(scope="module")
def judged(broker):
    """Records judged by one worker; one of them is no JSON."""
    config = fresh_config(broker, threshold=THRESHOLD)
    store.publish(config, small_model().to_bytes(), who="test", why="first")
    feed(config, [*list(telemetry(RECORDS - 1)), b"{"])
    with Running(config, None, until_end=True) as running:
        running.join()
    return config


def reckoned(config):
    starts = dict.fromkeys(topics.end_offsets(config.kafka, config.topics.telemetry), 0)
    found = dispositions(config, starts)
    return found.lost, found.duplicated, found.mismatched


def test_a_sound_run_has_no_faults(judged):
    """What a worker left is exactly what must be there."""
    assert reckoned(judged) == (0, 0, 0)


def test_each_fault_is_counted_as_what_it_is(judged):
    """An alert taken away is lost, one written twice duplicated, one forged a mismatch."""
    first, second, third, *others = alerts_topic.everything(judged)
    assert len(others) > 5
    assert reckoned(with_alerts(judged, [second, third, *others])) == (1, 0, 0)
    assert reckoned(with_alerts(judged, [first, first, second, third, *others])) == (0, 1, 0)
    forged = replace(first, threshold=first.threshold + 0.001)
    assert reckoned(with_alerts(judged, [forged, second, third, *others])) == (0, 0, 1)


def test_an_alert_on_a_normal_record_is_a_mismatch(judged):
    """A replay does not flag the record."""
    found = list(alerts_topic.everything(judged))
    places = {(alert.partition, alert.offset) for alert in found}
    normal = next(offset for offset in range(250) if (0, offset) not in places)
    invented = replace(next(alert for alert in found if alert.partition == 0), offset=normal)
    assert reckoned(with_alerts(judged, [*found, invented])) == (0, 0, 1)


def test_uncommitted_records_are_lost(judged):
    """Records beyond the committed offsets have no disposition."""
    feed(judged, telemetry(6, seed=9))
    assert reckoned(judged) == (6, 0, 0)
