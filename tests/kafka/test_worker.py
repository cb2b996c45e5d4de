"""The worker as its operator meets it: starting, waiting, stopping, refusing."""

import time

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions
from structlog.testing import capture_logs
from workload import (
    Running,
    alerts,
    committed,
    ends,
    feed,
    fresh_config,
    slotted,
    small_model,
    telemetry,
    until,
)

from stream_detector.errors import ModelError, ModelSchemaError, OffsetsLostError, TopicMissingError
from stream_detector.kafka.clients import admin
from stream_detector.registry import store
from stream_detector.worker import loop
from stream_detector.worker.output.producer import Connections

THRESHOLD = {"window": 500, "warmup": 100, "target_alert_rate": 0.01}
GROUP = {"session_timeout_ms": 6_000, "transaction_timeout_ms": 5_000}


@pytest.fixture
def config(broker):
    return fresh_config(broker, threshold=THRESHOLD, worker=GROUP)


def drain(config, **worker_settings):
    with Running(slotted(config, "drain", **worker_settings), small_model(), until_end=True) as running:
        return running.join()


def test_without_a_model_it_waits_and_says_how_to_make_one(config):
    """Nothing is consumed before a model is published; it is taken up within moments, and the advice comes once."""
    feed(config, telemetry(300))
    with capture_logs() as logs, Running(config, None, until_end=True) as running:
        until(lambda: any("models import" in entry["event"] for entry in logs), "the advice")
        time.sleep(2.5)
        assert set(committed(config).values()) == {None}
        store.publish(config, small_model().to_bytes(), "test", "first")
        summary = running.join()
    assert sum("models import" in entry["event"] for entry in logs) == 1
    assert summary.records == 300


def test_a_worker_without_records_hears_its_producer(config, monkeypatch):
    """What the client reports while nothing arrives is heard: kept, it would fill the memory, a megabyte a second."""
    heard = []
    monkeypatch.setattr(Connections, "on_stats", lambda _self, stats: heard.append(stats))
    feed(config, telemetry(30))
    with Running(config, small_model()) as running:
        until(lambda: running.seen.records == 30, "all is committed")
        before = len(heard)
        time.sleep(2)
        assert len(heard) > before + 10


def test_waiting_for_a_model_ends_when_told(config):
    """A stop while there is no model yet ends the run at once, with nothing done."""
    with Running(config, None) as running:
        time.sleep(1)
    assert running.summary.records == 0


def test_a_missing_topic_is_named(broker):
    """A configured topic that does not come ends the run with its name, once `unavailable_timeout_ms` is over."""
    config = fresh_config(broker, worker={"unavailable_timeout_ms": 1_000})
    gone = config.model_copy(update={"topics": config.topics.model_copy(update={"alerts": "no-such-alerts"})})
    with pytest.raises(TopicMissingError, match="no-such-alerts"):
        loop.run(gone, small_model)


def test_a_model_for_other_features_is_refused(broker):
    """Declared features that the model does not know end the run, both lists named."""
    config = fresh_config(broker, features=[{"name": "cpu"}, {"name": "pressure"}])
    with pytest.raises(ModelSchemaError, match=r"memory.*pressure"):
        loop.run(config, small_model)


def test_declared_features_may_stand_in_any_order(broker):
    """The order of declared features is of no consequence, as records name theirs."""
    names = [{"name": "kind", "kind": "categorical"}, {"name": "latency"}, {"name": "cpu"}, {"name": "memory"}]
    config = fresh_config(broker, features=names)
    feed(config, telemetry(50))
    assert drain(config).records == 50


def test_an_empty_topic_is_done_at_once(config):
    """With nothing to read, a bounded run ends."""
    assert drain(config).records == 0


def test_offsets_move_though_nothing_is_wrong(config):
    """Records that raise no alert are committed as well, while the stream goes on."""
    unmoved = config.model_copy(update={"threshold": config.threshold.model_copy(update={"target_alert_rate": 1e-9})})
    with Running(slotted(unmoved, "quiet"), small_model()) as running:
        feed(config, telemetry(100, anomalies=0))
        until(lambda: committed(config) == ends(config), "all is committed")
    assert (running.summary.flagged, running.summary.normal) == (0, 100)


def test_latest_begins_behind_what_is_there_and_never_skips_again(config):
    """`start_from: latest` skips what is there at the very first start; later starts go on where the last ended."""
    feed(config, telemetry(300, seed=1))
    assert drain(config, start_from="latest").records == 0
    feed(config, telemetry(90, seed=2))
    assert drain(config, start_from="latest").records == 90
    grown = admin(config.kafka)
    [future] = grown.create_partitions([NewPartitions(config.topics.telemetry[0], 4)]).values()
    future.result()
    feed(config, telemetry(80, seed=3), partitions=4)
    assert drain(config, start_from="latest").records == 80


def overtake(config, count=200):
    """Committed records, then others of which retention takes some before they are read."""
    feed(config, telemetry(300, seed=1), partitions=1)
    drain(config)
    feed(config, telemetry(300, seed=2), partitions=1)
    client = admin(config.kafka)
    lost = TopicPartition(config.topics.telemetry[0], 0, 300 + count)
    [future] = client.delete_records([lost]).values()
    future.result()


def test_lost_offsets_end_the_run_with_their_range(config):
    """Records deleted before they were read are never passed over in silence: the exact offsets are named."""
    overtake(config)
    with pytest.raises(OffsetsLostError, match=r"partition 0: offsets 300 to 499 .*on_offsets_lost"):
        drain(config)


def test_lost_offsets_are_counted_when_told_to_go_on(config):
    """`on_offsets_lost: continue` goes on behind the gap, and reports its exact range."""
    overtake(config)
    with capture_logs() as logs:
        summary = drain(config, on_offsets_lost="continue")
    [lost] = [entry for entry in logs if entry["event"].startswith("offsets lost")]
    assert (lost["committed"], lost["low"], lost["log_level"]) == (300, 500, "error")
    assert (summary.offsets_lost, summary.records) == (200, 100)
    first = (config.topics.telemetry[0], 0)  # the others are empty: nothing has to be committed there
    assert committed(config)[first] == ends(config)[first]


def test_offsets_lost_under_way_are_noticed(config):
    """Records deleted between finding the start and the first fetch are reported as well."""
    feed(config, telemetry(300, seed=1), partitions=1)
    drain(config)
    feed(config, telemetry(3_000, seed=2), partitions=1)
    late = Late(small_model(), config, delete_to=2_500)
    running = Running(slotted(config, "late"), late, until_end=True)
    with pytest.raises(OffsetsLostError, match=r"offsets 300 to 2,499"), running:
        running.join()


class Late:
    """A real model at whose first scores, those of a threshold's history, most of the topic is deleted."""

    def __init__(self, model, config, delete_to):
        self._model, self._config, self._delete_to = model, config, delete_to

    def __getattr__(self, name):
        return getattr(self._model, name)

    def score(self, X):
        client = admin(self._config.kafka)
        place = TopicPartition(self._config.topics.telemetry[0], 0, self._delete_to)
        [future] = client.delete_records([place]).values()
        future.result()
        return self._model.score(X)


@pytest.mark.telling
def test_a_run_that_breaks_commits_nothing_unfinished(config, broker):
    """An error in the middle leaves offsets as of the last commit: the next run judges the rest, and nothing twice."""
    values = list(telemetry(3_000, seed=5, anomalies=0.1))
    undisturbed = fresh_config(broker, threshold=THRESHOLD)
    for each in (config, undisturbed):
        feed(each, values)
    broken = Running(slotted(config, "broken", batch_records=64), Broken(small_model(), batches=5))
    with pytest.raises(ModelError), broken:
        broken.join()
    for each in (config, undisturbed):
        drain(each)
    assert alerts(config) == alerts(undisturbed)


class Broken:
    """A real model that gives up after a few batches."""

    def __init__(self, model, batches):
        self._model, self._left = model, batches

    def __getattr__(self, name):
        return getattr(self._model, name)

    def score(self, X):
        self._left -= 1
        if self._left < 0:
            raise ModelError("the model gives up")
        return self._model.score(X)


def test_both_rebalance_protocols_find_the_same(broker):
    """`group_protocol: consumer` (KIP-848) with workers coming and going gives the same alerts as classic."""
    values, found = list(telemetry(6_000, seed=4)), {}
    for protocol in ("classic", "consumer"):
        config = fresh_config(broker, threshold=THRESHOLD, worker=GROUP | {"group_protocol": protocol})
        feed(config, values[:3_000])
        with Running(slotted(config, "a", batch_records=64), small_model()):
            with Running(slotted(config, "b", batch_records=64), small_model()) as second:
                until(lambda second=second: second.seen.partitions, "the second worker has a partition")
                feed(config, values[3_000:])
                until(lambda second=second: second.seen.records, "the second worker commits")
            until(lambda config=config: committed(config) == ends(config), "all is committed")
        found[protocol] = alerts(config)
    assert len(found["classic"]) > 50
    assert found["classic"] == found["consumer"]
