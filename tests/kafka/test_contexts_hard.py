"""Hard times for contexts on a worker: whatever a log holds, or loses, alerts are those of an undisturbed worker."""

import json
import uuid
from itertools import pairwise

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions
from context_runs import cut, drain, neutral, told, undisturbed, written
from workload import (
    DAY_ZERO,
    IMPATIENT,
    MODEL_CONFIG,
    THRESHOLD,
    Running,
    committed,
    contextual_model,
    ends,
    entity_rows,
    entity_telemetry,
    feed,
    fresh_config,
    published,
    until,
)

import stream_detector
from stream_detector.config import ContextConfig
from stream_detector.kafka import topics
from stream_detector.kafka.clients import admin, plain_producer
from stream_detector.kafka.topic_descriptions import described, ids

POISON = 345.0
MINUTE = 60_000


def fresh(broker, **sections):
    return fresh_config(broker, threshold=THRESHOLD, worker=IMPATIENT, **sections)


def in_pieces(config, model, values, cuts, **where):
    """Feeds values between the cuts, each piece judged by a worker of its own in small batches; returns the summaries."""
    summaries = []
    for first, end in pairwise((0, *cuts, len(values))):
        feed(config, values[first:end], **where)
        summaries.append(drain(config, model, batch_records=64))
    return summaries


def counted(summaries, name):
    return sum(summary.context.counts.get(name, 0) for summary in summaries)


def partial(found):
    """Offsets of the alerts whose context is partial."""
    return {alert["source"]["offset"] for alert in found.values() if alert["context_state"] == "partial"}


def test_what_retention_left_is_partial_until_an_epoch_that_begins_in_it(broker, command, tmp_path):
    """Alerts say so, a metric counts them, their replay ends with code 9; and beyond they are those of the whole log."""
    values = list(entity_telemetry(4_800, anomalies=0.04))
    config, whole = fresh(broker), fresh(broker)
    published(config, contextual_model())
    in_pieces(config, None, values[:1_800], ())
    cut(config, 580)
    feed(config, values[1_800:])
    summary = drain(config, batch_records=100)
    found = told(config)
    assert partial(found) == {alert["source"]["offset"] for alert in found.values()} & set(range(600, 750)) != set()
    assert summary.context.counts["partial"] == 3 * 150
    for name in [name for name, alert in found.items() if alert["context_state"] == "partial"][:2]:
        code, out, err = command("replay", name, "-c", written(config, tmp_path))
        assert (code, "match" in out, "retention" in err) == (9, False, True)
    feed(whole, values)
    expected = neutral(whole, undisturbed(whole, contextual_model()))

    def told_of(alerts):
        """Without those whose context or threshold lacks what retention took."""
        return {at: alert for at, alert in alerts.items() if not 600 <= alert["source"]["offset"] < 1_100}

    assert told_of(neutral(config, found)) == told_of(expected)
    assert len(told_of(expected)) > 20


def test_a_hole_on_the_border_of_an_epoch_changes_nothing(broker):
    """Markers of transactions and aborted records lie where epochs begin, and workers begin anew there."""
    config, model = fresh(broker, topics={"partitions": 1}), contextual_model()
    values = iter(entity_telemetry(1_500, anomalies=0.05))
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    markers = []
    for count, end in ((150, "commit"), (149, "commit"), (60, "abort"), (88, "commit"), (130, "commit"), (40, "abort")):
        producer.begin_transaction()
        for _ in range(count):
            producer.produce(config.topics.telemetry[0], next(values), partition=0)
        assert producer.flush(30) == 0
        getattr(producer, f"{end}_transaction")(30)
        [high] = ends(config).values()
        markers.append(high - 1)
        drain(config, model, batch_records=50)
    in_pieces(config, model, list(values), (333,), partitions=1)
    assert markers[:4] == [150, 300, 361, 450]
    assert markers[4] < 600 < markers[5]
    found = told(config)
    assert found == undisturbed(config, model)
    assert len(found) > 20


def test_more_entities_than_have_room(broker):
    """Sixty servers meet tables of eight: who is forgotten is a matter of the log alone."""
    config, model = fresh(broker), contextual_model()
    values = [json.loads(value) for value in entity_telemetry(2_400, anomalies=0.03)]
    rng = np.random.default_rng(3)
    for value in values:
        if rng.random() < 0.3:
            value["entity"] = f"guest-{rng.integers(60)}"
    summaries = in_pieces(config, model, [json.dumps(value).encode() for value in values], (300, 951, 1_500))
    assert counted(summaries, "evictions") > 200
    found = told(config)
    assert found == undisturbed(config, model)
    assert len(found) > 20


def test_two_telemetry_topics_have_contexts_of_their_own(broker):
    """The same partition of two topics is two partitions, judged side by side and by workers that share them."""
    names = [f"telemetry-{uuid.uuid4().hex[:8]}" for _ in "ab"]
    config, model = fresh(broker, topics={"telemetry": names}), contextual_model()
    for seed in (0, 1):
        for topic in names:
            feed(config, entity_telemetry(1_200, seed=seed, anomalies=0.03), topic=topic)
        with Running(config, model) as one:
            until(lambda: one.seen.records > 0, "the first works")
            second = config.model_copy(update={"kafka": config.kafka.model_copy(update={"slot": f"two-{names[0]}"})})
            with Running(second, model):
                until(lambda: committed_all(config), "all is committed")
    found = told(config)
    assert found == undisturbed(config, model)
    assert {alert["source"]["topic"] for alert in found.values()} == set(names)


def committed_all(config):
    return committed(config) == ends(config)


def test_partitions_added_while_a_worker_runs(broker):
    """New partitions begin with contexts that know nobody; the others go on as if nothing had been added."""
    config, model = fresh(broker), contextual_model()
    with Running(config, model) as running:
        feed(config, entity_telemetry(900, anomalies=0.03))
        until(lambda: running.seen.records == 900, "all is judged")
        client = admin(config.kafka)
        [added] = client.create_partitions([NewPartitions(config.topics.telemetry[0], 5)]).values()
        added.result()
        feed(config, entity_telemetry(1_500, seed=1, anomalies=0.03), partitions=5)
        until(lambda: running.seen.records == 2_400, "the new ones are judged, too", timeout=90)
    found = told(config)
    assert found == undisturbed(config, model)
    assert {alert["source"]["partition"] for alert in found.values()} == set(range(5))


def test_a_topic_created_anew_begins_anew(broker):
    """What entities did in a deleted topic says nothing of one of the same name."""
    config, model = fresh(broker), contextual_model()
    in_pieces(config, model, list(entity_telemetry(900, seed=2)), ())
    client, topic = admin(config.kafka), config.topics.telemetry[0]
    [gone] = client.delete_topics([topic]).values()
    gone.result()
    until(lambda: not ids(described(client, [topic], 10)), "it is gone")
    topics.create(config)
    later = config.model_copy(update={"topics": config.topics.model_copy(update={"alerts": f"{topic}-later"})})
    topics.create(later)
    values = list(entity_telemetry(1_800, anomalies=0.03))
    feed(later, values[:700])
    drain(later, model, on_offsets_lost="continue")
    feed(later, values[700:], partitions=3)
    drain(later, model, batch_records=64)
    found = told(later)
    assert found == undisturbed(later, model)
    assert len(found) > 20


@pytest.mark.parametrize("lacking", ["entity", "time"])
def test_a_path_that_is_empty(broker, lacking):
    """Without entities the partition is one; without times there is no calendar, and decay goes by records."""
    entities, times, features = zip(*entity_rows(2_000, seed=500), strict=True)
    given = {"entity": entities, "time": times} | {lacking: None}
    context = ContextConfig(epoch=150, history=60, most_entities=8)
    model = stream_detector.fit(
        list(features), None, stream_detector.ModelConfig(**MODEL_CONFIG), 0, "cpu", context=context, **given
    )
    assert getattr(model.context.spec, f"{lacking}_path") is None
    config = fresh(broker, record={f"{lacking}_path": ""})
    in_pieces(config, model, list(entity_telemetry(1_800, anomalies=0.05)), (300, 951))
    found = told(config)
    assert found == undisturbed(config, model)
    assert len(found) > 10


def test_records_without_entity_or_time_stand_between_the_others(broker):
    """A third of them lack one or both: they are judged alone, or without a calendar."""
    config, model = fresh(broker), contextual_model()
    values = [json.loads(value) for value in entity_telemetry(1_800, anomalies=0.04)]
    for at, value in enumerate(values):
        for name in (("entity",), ("time",), ("entity", "time"), (), (), ())[at % 7 % 6]:
            value.pop(name, None)
    summaries = in_pieces(config, model, [json.dumps(value).encode() for value in values], (300, 951))
    assert counted(summaries, "records") == 1_800
    assert told(config) == undisturbed(config, model)


class Allergic:
    """A real model that fails on one record."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def score_alone(self, records):
        matrix = getattr(records, "matrix", records)
        if (np.asarray(matrix)[:, 0] == np.float32(POISON)).any():
            raise ArithmeticError("a bug of the model")
        return self._model.score_alone(records)


def test_a_record_that_the_model_fails_on_in_the_middle_of_a_batch(broker):
    """It is a dead letter, and the others are judged as in any other batches; contexts are gone through once, not twice."""
    config, model = fresh(broker), Allergic(contextual_model())
    values = list(entity_telemetry(1_800, anomalies=0.03))
    for at in (500, 1_300):
        values[at] = json.dumps(json.loads(values[at]) | {"features": {"cpu": POISON, "memory": 1.0}}).encode()
    summaries = in_pieces(config, model, values, (300, 951))
    assert sum(summary.dead_lettered.get("scoring-error", 0) for summary in summaries) == 2
    found = told(config)
    assert found == undisturbed(config, model, batch=1_000)  # larger ones are scored in threads, where nothing fails
    assert len(found) > 20


def stamped(config, times):
    """One server's records in one partition: event times, and the Kafka timestamps that bear them out, minutes."""
    producer = plain_producer(config.kafka)
    for at, (event, stamp) in enumerate(times):
        value = {"id": f"s{at}", "entity": "host-1", "time": DAY_ZERO + event * MINUTE}
        value["features"] = {"cpu": 50.0 + at % 3, "memory": 40.0 + at % 5}
        place = config.topics.telemetry[0], json.dumps(value).encode(), b"k", 0
        producer.produce(*place, timestamp=DAY_ZERO + stamp * MINUTE)
    assert producer.flush(30) == 0


@pytest.mark.parametrize(("stamp", "late"), [(50, 0), (500_000, 2)])
def test_one_record_from_the_future_makes_no_other_late_for_long(broker, stamp, late):
    """Kafka's timestamp bounds it; where that is from the future, too, the third record that agrees sets the clock back."""
    config = fresh(broker, topics={"partitions": 1})
    stamped(config, [(at, at) for at in range(50)] + [(500_000, stamp)] + [(at, at) for at in range(51, 100)])
    summary = drain(config, contextual_model())
    assert summary.context.counts.get("late", 0) == late
    assert summary.context.counts["full"] == 100 - 32


def test_records_that_come_late_teach_nothing(broker):
    """They are judged, counted and left out: what comes after them is judged as without them."""
    config = fresh(broker, topics={"partitions": 1})
    times = [(at, at) for at in range(100)]
    for at in range(60, 100, 10):
        times[at] = at - 30, at
    stamped(config, times)
    assert drain(config, contextual_model()).context.counts["late"] == 4
