"""Models change under load: nothing is lost, nothing is judged twice, and every alert is what its model says."""

import gc
import json
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from malformed import malformed
from structlog.testing import capture_logs
from workload import (
    THRESHOLD,
    Running,
    alerts,
    committed,
    ends,
    everything,
    feed,
    fresh_config,
    published,
    slotted,
    small_model,
    telemetry,
    until,
    verdicts,
)

from stream_detector import ModelConfig, fit
from stream_detector.errors import KafkaError
from stream_detector.kafka.clients import plain_producer
from stream_detector.model import DetectorModel
from stream_detector.registry import store
from stream_detector.registry.model_pointer import Pointer, PointerWatch
from stream_detector.worker.model_swap import ModelFollower
from stream_detector.worker.partitions.assignment import Assignment

ANOMALIES = 0.004  # fewer than the target: the rolling quantile decides, not the limits that all models share
GROUP = {"session_timeout_ms": 6_000, "transaction_timeout_ms": 5_000, "batch_records": 256}


@pytest.fixture
def config(broker):
    return fresh_config(broker, threshold=THRESHOLD, worker=GROUP)


def raised(config):
    """Model version by partition and offset of each alert's record."""
    found = [json.loads(message.value()) for message in everything(config, config.topics.alerts)]
    return {(a["source"]["partition"], a["source"]["offset"]): a["model_version"] for a in found}


def assert_each_alert_is_its_models(config, models):
    """Every alert has score and threshold as its model alone would give; what all models flag is flagged."""
    oracles = {model.version: verdicts(config, model) for model in models}
    found, versions = alerts(config), raised(config)
    assert {place: oracles[version].get(place) for place, version in versions.items()} == found
    agreed = set.intersection(*(set(oracle) for oracle in oracles.values()))
    assert len(agreed) > 10
    assert len({verdict.threshold for verdict in found.values()}) > 10
    assert agreed <= set(found)
    return versions


def serving(running, version):
    return lambda: running.seen.model == version


@pytest.mark.telling
def test_a_promoted_model_takes_over_in_a_running_worker(config):
    """After a promotion alerts come from the new model, with the thresholds that it would have had all along."""
    models = small_model(0), small_model(1)
    first, second = published(config, *models)
    feed(config, telemetry(6_000, seed=1, anomalies=ANOMALIES))
    with Running(config, None) as running:
        until(lambda: committed(config) == ends(config), "the first half is committed")
        store.promote(config, second, "test", "better")
        until(serving(running, second), "the second model serves")
        feed(config, telemetry(6_000, seed=2, anomalies=ANOMALIES))
        until(lambda: committed(config) == ends(config), "all is committed")
    assert (running.summary.swaps, running.summary.records, running.summary.restores) == (1, 12_000, 3)
    versions = assert_each_alert_is_its_models(config, models)
    assert {version for (_, offset), version in versions.items() if offset < 2_000} == {first}
    assert {version for (_, offset), version in versions.items() if offset >= 2_000} == {second}


def test_two_workers_change_over_and_a_third_starts_with_the_same(config):
    """All workers of a group follow, and one that starts afterwards agrees with them from its first record."""
    models = small_model(0), small_model(1)
    _, second = published(config, *models)
    a, b = (Running(slotted(config, f"slot-{n}"), None) for n in range(2))
    with a, b:
        until(lambda: a.seen.partitions and b.seen.partitions, "both have partitions")
        feed(config, telemetry(6_000, seed=3, anomalies=ANOMALIES))
        store.promote(config, second, "test", "in the middle of it")
        until(lambda: serving(a, second)() and serving(b, second)(), "both serve the second model")
    feed(config, telemetry(3_000, seed=4, anomalies=ANOMALIES))
    with Running(slotted(config, "late"), None, until_end=True) as late:
        late.join()
    assert a.summary.records + b.summary.records + late.summary.records == 9_000
    assert_each_alert_is_its_models(config, models)


def test_a_choice_taken_back_at_once_changes_nothing(config):
    """A pointer that is back before the new model was taken, or soon after, ends at the first model."""
    first, second = published(config, small_model(0), small_model(1))
    with Running(config, None) as running:
        until(lambda: running.seen.partitions == 3, "partitions are placed")
        store.promote(config, second, "test", "there")
        store.rollback(config, "test", "and back")
        time.sleep(2)
        until(serving(running, first), "the first model serves")
        assert running.seen.swaps in {0, 2}


def test_a_window_that_takes_too_much_memory_is_read_again(config, monkeypatch):
    """Where the messages behind a threshold were let go, the window comes from the log, with the same alerts."""
    monkeypatch.setattr("stream_detector.worker.partitions.assignment.KEPT_BYTES", 20_000)
    models = small_model(0), small_model(1)
    _, second = published(config, *models)
    feed(config, telemetry(6_000, seed=1, anomalies=ANOMALIES))
    with Running(config, None) as running:
        until(lambda: committed(config) == ends(config), "the first half is committed")
        store.promote(config, second, "test", "better")
        until(serving(running, second), "the second model serves")
        feed(config, telemetry(3_000, seed=2, anomalies=ANOMALIES))
        until(lambda: committed(config) == ends(config), "all is committed")
    assert running.summary.restores == 6
    assert_each_alert_is_its_models(config, models)


def test_refused_artifacts_leave_the_old_model_serving(config, produce):
    """Whatever is wrong with a model pointed to, it is named once and counted, and alerts stay those of the old one."""
    models = small_model(0), small_model(1)
    first, _ = published(config, *models)
    cases = list(malformed(models[1].to_bytes()))
    with capture_logs() as logs, Running(config, None) as running:
        until(lambda: running.seen.partitions == 3, "partitions are placed")
        for number, (name, version, artifact) in enumerate(cases, 1):
            pointer = Pointer(version, first, "test", "now", name)
            keys = [b"version/" + version.encode(), b"current"]
            produce(config, config.topics.models, [artifact, pointer.to_json()], keys=keys)
            if number % 5 == 0:
                feed(config, telemetry(300, seed=number, anomalies=ANOMALIES))
            until(partial(counted, logs, "why", number), f"{name} is refused")
        produce(config, config.topics.models, [b"no pointer"], keys=[b"current"])
        until(partial(counted, logs, "why", len(cases) + 1), "the unsound pointer is refused")
        until(lambda: committed(config) == ends(config), "all is committed")
        assert alerts(config) == verdicts(config, models[0])
        sound = store.publish(config, models[1].to_bytes(), "test", "a sound one at last").version
        until(serving(running, sound), "the sound model serves")
    assert running.summary.models_refused == len(cases) + 1
    assert all("model refused" in entry["event"] for entry in logs if entry["log_level"] == "error")


def test_a_model_of_other_records_is_refused(config):
    """Where no features are declared, a model whose features the records lack does not come to serve by mistake."""
    rows = [{"humidity": float(n % 7), "pressure": float(n % 11), "cpu": float(n % 5)} for n in range(200)]
    stranger = fit(rows, config=ModelConfig(model={"steps": 200, "members": 1}), device="cpu")
    (first,) = published(config, small_model(0))
    feed(config, telemetry(300))
    with capture_logs() as logs, Running(config, None) as running:
        until(lambda: committed(config) == ends(config), "all is committed")
        store.publish(config, stranger.to_bytes(), "test", "of another topic")
        until(partial(counted, logs, "why", 1), "it is refused")
        assert running.seen.model == first
    assert "'humidity', 'pressure' not there" in next(entry["why"] for entry in logs if "why" in entry)


def test_a_worker_starts_with_the_model_before_a_refused_one(config, monkeypatch):
    """A worker that starts while the pointer names an unsound model serves what the running ones go on with, and
    says so once.
    """
    first, _ = published(config, small_model(0), small_model(1))
    bad = store.publish(config, b"not a model", "test", "careless").version
    feed(config, telemetry(300))
    considered, honest = [], ModelFollower._consider
    monkeypatch.setattr(ModelFollower, "_consider", lambda self, pointer: (honest(self, pointer), considered.append(1)))
    with capture_logs() as logs, Running(config, None) as running:
        until(lambda: considered and committed(config) == ends(config), "it is looked at again, beside the work")
    assert (running.summary.model, running.summary.records, running.summary.models_refused) == (first, 300, 1)
    (refused,) = (entry for entry in logs if "refused" in entry["event"])
    assert (refused["version"], refused["serving"]) == (bad, first)


def test_an_unsound_pointer_is_refused_once_whatever_happens_to_the_watch(config, produce, monkeypatch):
    """A watch on the pointers that is made again after trouble tells nothing twice."""
    published(config, small_model(0))
    watches, honest = [], PointerWatch.poll

    def fails_at_first(watch, wait=0.0):
        if not watches or watches[-1] is not watch:
            watches.append(watch)
        elif len(watches) < 3:
            raise KafkaError("a test: trouble with the broker")
        return honest(watch, wait)

    monkeypatch.setattr(PointerWatch, "poll", fails_at_first)
    monkeypatch.setattr("stream_detector.worker.model_swap.PAUSE", 0.1)
    produce(config, config.topics.models, [b"no pointer"], keys=[b"shadow"])
    with capture_logs() as logs, Running(config, None) as running:
        until(lambda: len(watches) == 3, "two watches failed")
        feed(config, telemetry(300))
        until(lambda: committed(config) == ends(config), "all is committed")
    assert sum("not a model pointer" in entry.get("why", "") for entry in logs) == 1
    assert running.summary.models_refused == 1


def counted(logs, key, times):
    return sum(key in entry for entry in logs) == times


@pytest.mark.slow
def test_a_hundred_changes_under_load(config, monkeypatch):
    """Records are judged exactly once, one model a transaction, and models that served are let go."""
    models = small_model(0), small_model(1)
    versions = published(config, *models)
    rebase, uncommitted = Assignment.rebase, []

    def spy(assignment, *model):
        uncommitted.append(assignment.pending())
        return rebase(assignment, *model)

    monkeypatch.setattr(Assignment, "rebase", spy)
    done, fed, pointing = threading.Event(), 0, plain_producer(config.kafka)

    def load():
        nonlocal fed
        while not done.is_set():
            feed(config, telemetry(200, seed=10 + fed, anomalies=ANOMALIES))
            fed += 200
            time.sleep(0.3)

    with capture_logs() as logs, Running(config, None) as running:
        until(lambda: running.seen.partitions == 3, "partitions are placed")
        feeder = threading.Thread(target=load)
        feeder.start()
        kept, resident, changes, began = [], [], 0, time.monotonic()
        try:
            while changes < 100:
                changes += 1
                pointer = Pointer(versions[changes % 2], None, "test", "now", f"change {changes}")
                pointing.produce(config.topics.models, pointer.to_json(), b"current")
                pointing.flush(10)
                until(partial(counted, logs, "stall_ms", changes), f"change {changes}")
                if changes % 20 == 0:
                    gc.collect()
                    kept.append(sum(type(each) is DetectorModel for each in gc.get_objects()))
                    resident.append(int(Path("/proc/self/statm").read_text().split()[1]))
            took = time.monotonic() - began
        finally:
            done.set()
            feeder.join()
        until(lambda: committed(config) == ends(config), "all is committed")

    print(f"100 changes in {took:.1f} s, pages resident {resident}")
    assert running.summary.records == fed
    assert uncommitted == [{}] * 100
    assert max(kept) == kept[0]
    assert resident[-1] < 1.25 * resident[0]
    assert sum(running.summary.swap_stalls.counts) == 100
    versions = assert_each_alert_is_its_models(config, models)
    assert len(set(versions.values())) == 2
    assert_one_model_a_transaction(config)


def assert_one_model_a_transaction(config):
    """On the alerts topic each transaction ends with a marker, an offset that is no record."""
    places = [
        (m.partition(), m.offset(), json.loads(m.value())["model_version"])
        for m in everything(config, config.topics.alerts)
    ]
    changes = 0
    for (partition, offset, version), (other, after, following) in pairwise(sorted(places)):
        if partition == other and version != following:
            changes += 1
            assert after > offset + 1, f"two models in one transaction at alert {partition}-{offset}"
    assert changes > 5
