"""A worker judges what an entity did before: alerts are a function of the log and the model, whatever happens to it."""

import json
from itertools import pairwise

import pytest
from context_runs import RECORDS, again, drain, neutral, told
from workload import (
    IMPATIENT,
    THRESHOLD,
    Running,
    contextual_model,
    entity_telemetry,
    feed,
    fresh_config,
    published,
    slotted,
    small_model,
    until,
)

from stream_detector.audit import alerts_topic
from stream_detector.audit.backtest import backtest
from stream_detector.audit.replay import replay
from stream_detector.registry import store
from stream_detector.worker.partitions.restore import LogReader

NONE = lambda *_: None  # noqa: E731 - progress that nobody looks at


@pytest.fixture(scope="module")
def judged(broker):
    """Three partitions over some twenty epochs, judged by one worker in large batches."""
    config = fresh_config(broker, threshold=THRESHOLD)
    published(config, contextual_model())
    feed(config, entity_telemetry(RECORDS))
    drain(config, batch_records=2_000)
    return config


@pytest.fixture(scope="module")
def expected(judged):
    """The alerts of the undisturbed worker."""
    return told(judged)


def test_an_alert_says_what_its_context_is(judged, expected):
    """Specification, state and the nines of both views stand in the alert, and the context finds what alone is normal."""
    spec = contextual_model().context.spec.hash
    found = list(expected.values())
    assert len(found) > 20
    assert {alert["context_spec"] for alert in found} == {spec}
    assert {alert["context_state"] for alert in found} == {"whole"}
    views = [alert["opinions"]["views"] for alert in found]
    assert {frozenset(each) for each in views} == {frozenset({"record", "context"})}
    assert sum((each["context"] or 0) > 2 > each["record"] for each in views) > 10
    read = next(alerts_topic.everything(judged))
    assert json.loads(read.to_json()) | {"detection_time": None} == expected[read.id]


@pytest.mark.parametrize("batch", [64, 333])
def test_batches_and_restarts_change_no_alert(broker, judged, expected, batch):
    """A worker that is stopped and started again several times, in other batches, tells the same to the bit."""
    config = fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT)
    values = list(entity_telemetry(RECORDS))
    for first, end in pairwise((0, 333, 900, 1_902, RECORDS)):
        feed(config, values[first:end])
        drain(config, contextual_model(), batch_records=batch)
    assert neutral(config, told(config)) == neutral(judged, expected)


def test_workers_that_share_the_partitions_tell_the_same(broker, judged, expected):
    """A second and a third worker take partitions over in the middle, and rebuild their contexts from the log."""
    config = again(broker)
    model = contextual_model()
    with Running(slotted(config, "one", batch_records=64), model) as one:
        until(lambda: one.seen.records > 300, "the first works")
        with Running(slotted(config, "two"), model), Running(slotted(config, "three"), model):
            until(lambda: one.seen.rebalances > 1, "the partitions are shared")
        until(lambda: one.seen.rebalances > 3, "and taken back")
    drain(config, model)
    assert neutral(config, told(config)) == neutral(judged, expected)


def test_every_alert_replays_to_itself_and_a_backtest_agrees(judged):
    """Replay finds no difference in any field, and a backtest over all adds and loses nothing."""
    ids = [alert.id for alert in alerts_topic.everything(judged)]
    for name in ids[:: max(1, len(ids) // 20)]:
        done = replay(judged, name)
        assert (done.differences, done.judgement.in_context) == ([], True), name
    compared = backtest(judged, contextual_model(), 0, None, NONE)
    assert (compared.added, compared.lost, compared.records) == ([], [], RECORDS)


def test_a_model_with_another_context_takes_over_as_if_it_had_always_served(broker):
    """After the change alerts are those of a worker that knows no other model, also where only one has a context."""
    config = again(broker)
    first, second = contextual_model(), contextual_model(1, epoch=200, history=200)
    versions = published(config, first, second)
    with Running(config, None) as running:
        until(lambda: running.seen.records == RECORDS, "all is judged")
        store.promote(config, versions[1], "test", "next")
        until(lambda: running.seen.model == versions[1], "the next model serves")
        feed(config, entity_telemetry(RECORDS, seed=1))
        until(lambda: running.seen.records == 2 * RECORDS, "all is judged")
    late = {name: alert for name, alert in told(config).items() if alert["source"]["offset"] >= RECORDS // 3}
    assert {alert["model_version"] for alert in late.values()} == {versions[1]}
    alone = fresh_config(broker, threshold=THRESHOLD)
    feed(alone, entity_telemetry(RECORDS))
    feed(alone, entity_telemetry(RECORDS, seed=1))
    drain(alone, second)
    expected = {name: alert for name, alert in told(alone).items() if alert["source"]["offset"] >= RECORDS // 3}
    assert len(expected) > 10
    assert neutral(config, late) == neutral(alone, expected)


def test_a_model_that_is_made_ready_slowly_stops_no_partition(broker, monkeypatch):
    """What was judged while its contexts were rebuilt is read from the log; nothing is left to restore at the change."""
    config = again(broker)
    versions = published(config, contextual_model(in_context=False), contextual_model())
    restored, slowed = LogReader.restored, []

    def slowly(self, partition, low, offset, judge):
        found = restored(self, partition, low, offset, judge)
        if judge.context_model and not slowed:
            slowed.append(partition)
            feed(config, entity_telemetry(RECORDS, seed=1))
            until(lambda: running.seen.records == 2 * RECORDS, "more is judged than is kept")
        return found

    with Running(config, None) as running:
        until(lambda: running.seen.records == RECORDS, "all is judged")
        monkeypatch.setattr(LogReader, "restored", slowly)
        before = running.seen.restores
        store.promote(config, versions[1], "test", "next")
        until(lambda: running.seen.model == versions[1], "the next model serves")
        assert (len(slowed), running.seen.restores) == (1, before)
        feed(config, entity_telemetry(RECORDS, seed=2))
        until(lambda: running.seen.records == 3 * RECORDS, "all is judged")
    late = {name: each for name, each in told(config).items() if each["model_version"] == versions[1]}
    alone = fresh_config(broker, threshold=THRESHOLD)
    for seed in range(3):
        feed(alone, entity_telemetry(RECORDS, seed=seed))
    drain(alone, contextual_model())
    expected = {name: each for name, each in told(alone).items() if each["source"]["offset"] >= 2 * RECORDS // 3}
    assert len(expected) > 10
    assert neutral(config, late) == neutral(alone, expected)


def test_a_model_without_a_context_says_nothing_of_one(broker):
    """Its alerts have no field of a context."""
    config = again(broker)
    drain(config, small_model())
    assert all("context_spec" not in alert and "views" not in alert["opinions"] for alert in told(config).values())


def test_a_record_that_cannot_be_used_teaches_nothing(broker):
    """Dead letters between the records are holes of the log: what is told of the others depends on offsets alone."""
    values = list(entity_telemetry(RECORDS))
    values[400:400] = [b"{"] * 3
    found = []
    for cuts in ((0, len(values)), (0, 402, 999, len(values))):
        config = fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT)
        for first, end in pairwise(cuts):
            feed(config, values[first:end])
            drain(config, contextual_model(), batch_records=100)
        found.append(neutral(config, told(config)))
    assert found[0] == found[1]
    assert len(found[0]) > 20
