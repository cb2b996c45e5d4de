"""Every format through a real worker: the same verdicts as JSON, each record with an id of its own."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from formats import avro_schema, avro_writer, batch, vector
from workload import (
    Running,
    alerts,
    committed,
    dead_letters,
    ends,
    everything,
    feed,
    fresh_config,
    rows,
    slotted,
    small_model,
)

import stream_detector
from benchmarks.speed.http_registry import http_registry
from stream_detector.audit import replay
from stream_detector.records import columns
from stream_detector.registry import store

THRESHOLD = {"window": 500, "warmup": 100, "target_alert_rate": 0.01}
NUMBERS = ("cpu", "memory", "latency")
ROWS = [{"id": f"r{at}", "features": row} for at, row in enumerate(rows(4_000, seed=3, anomalies=0.02))]
PER_MESSAGE = 40


def drain(broker, values, model, worker=(), **record):
    """What a worker leaves of values in one partition: the configuration, the summary."""
    config = fresh_config(broker, threshold=THRESHOLD, record=record)
    feed(config, values, partitions=1)
    with Running(slotted(config, "drain", **dict(worker)), model, until_end=True) as running:
        summary = running.join()
    assert committed(config)[config.topics.telemetry[0], 0] == ends(config)[config.topics.telemetry[0], 0]
    return config, summary


def verdicts(config):
    """Score, threshold and state in the order of the log."""
    return [verdict for _, verdict in sorted(alerts(config).items())]


@pytest.fixture(scope="module")
def of_json(broker):
    config, _ = drain(broker, [json.dumps(row).encode() for row in ROWS], small_model())
    assert len(alerts(config)) > 40
    return config


@pytest.mark.telling
def test_avro_gives_what_json_gives(broker, of_json):
    """The same records as Avro, their schema fetched from a registry over HTTP, raise the same alerts."""
    schema = avro_schema(NUMBERS, ("kind",))
    write = avro_writer(SchemaRegistryClient.new_client({"url": "mock://worker"}), schema)
    with http_registry(schema) as address:
        config, _ = drain(broker, list(map(write, ROWS)), small_model(), format="avro", registry_url=address)
    assert alerts(config) == alerts(of_json)


@pytest.mark.parametrize("worker", [{}, {"batch_records": 100, "commit_interval_ms": 0}])
def test_rows_of_arrow_batches_are_records(broker, of_json, worker):
    """Every row is judged in turn, whatever the batches; its alert's id ends in the row's number, and leads back to it."""
    messages = [batch(ROWS[at : at + PER_MESSAGE]) for at in range(0, len(ROWS), PER_MESSAGE)]
    config, summary = drain(broker, messages, small_model(), worker, format="arrow")
    found = {alert["id"]: alert for alert in map(json.loads, values(config, config.topics.alerts))}
    assert summary.records == len(ROWS)
    assert summary.flagged == len(found)
    expected = {offset: verdict for (_, offset), verdict in alerts(of_json).items()}
    for name, alert in found.items():
        source = alert["source"]
        at = source["offset"] * PER_MESSAGE + source["row"]
        assert name == f"{source['topic']}-0-{source['offset']}-{source['row']}"
        assert alert["event_id"] == ROWS[at]["id"]
        assert (alert["score"], alert["threshold"]) == (expected[at].score, expected[at].threshold)
    assert len(found) == len(expected)


def test_a_restart_between_arrow_batches_changes_nothing(broker, of_json):
    """Thresholds are rebuilt from rows, not from messages: a worker that goes on finds what one alone finds."""
    messages = [batch(ROWS[at : at + PER_MESSAGE]) for at in range(0, len(ROWS), PER_MESSAGE)]
    config, _ = drain(broker, messages[:37], small_model(), format="arrow")
    feed(config, messages[37:], partitions=1)
    with Running(slotted(config, "second"), small_model(), until_end=True) as running:
        running.join()
    scores = Counter((a["score"], a["threshold"]) for a in map(json.loads, values(config, config.topics.alerts)))
    assert scores == Counter((verdict.score, verdict.threshold) for verdict in verdicts(of_json))


def test_messages_that_hold_too_much_together_are_read_again_fewer_at_once(broker, of_json, monkeypatch):
    """After messages of one row come some of a hundred: each row is judged once, as ever, at the cost of a few tries."""
    monkeypatch.setattr(columns, "ROOM", 60_000)  # bytes, of some 600 rows
    cuts = [*range(1_000), *range(1_000, len(ROWS) + 1, 100)]
    config, summary = drain(broker, [batch(ROWS[at:end]) for at, end in pairwise(cuts)], small_model(), format="arrow")
    scores = Counter((a["score"], a["threshold"]) for a in map(json.loads, values(config, config.topics.alerts)))
    assert scores == Counter((verdict.score, verdict.threshold) for verdict in verdicts(of_json))
    assert (summary.records, summary.dead_lettered) == (len(ROWS), {})
    assert 1 <= summary.restores <= 10


def test_a_row_of_an_arrow_batch_can_be_judged_again(broker):
    """Any row is explained with the threshold it met, and every alert of a row replays to a match."""
    messages = [batch(ROWS[at : at + PER_MESSAGE]) for at in range(0, 1_200, PER_MESSAGE)]
    config, _ = drain(broker, messages, small_model(), format="arrow")
    store.publish(config, small_model().to_bytes(), "test", "to replay with")
    found = [alert["id"] for alert in map(json.loads, values(config, config.topics.alerts))]
    rows_ = [int(name.rsplit("-", 1)[1]) for name in found]
    for name in (found[0], found[-1], found[rows_.index(max(rows_))]):
        assert replay.replay(config, name).differences == []
    place = replay.RecordPosition(config.topics.telemetry[0], 0, 20, 17)
    normal = replay.judgement(config, small_model(), place)
    assert normal.history == min(500 + 17, 20 * PER_MESSAGE + 17)
    assert normal.account.event_id == ROWS[20 * PER_MESSAGE + 17]["id"]


def test_a_bad_arrow_message_is_one_dead_letter(broker):
    """A batch with one bad row goes whole to the dead letters, its bytes untouched; the others' rows are all judged."""
    bad = batch([*ROWS[:3], {"id": "bad", "features": {"cpu": 1e308}}])
    config, summary = drain(broker, [batch(ROWS[:10]), bad, b"junk", batch(ROWS[10:20])], small_model(), format="arrow")
    assert {source: letter.value() for source, letter in dead_letters(config).items()} == {(0, 1): bad, (0, 2): b"junk"}
    assert summary.dead_lettered == {"non-finite": 1, "undecodable": 1}
    assert summary.records == 22


def test_vectors_are_judged_like_json(broker):
    """Bare vectors raise the alerts that the same numbers raise as JSON."""
    numbers = np.array([[row["features"][name] for name in NUMBERS] for row in ROWS], dtype=np.float32)
    schema = stream_detector.FeatureSchema(tuple(map(stream_detector.Feature, NUMBERS)))
    config = stream_detector.ModelConfig(model={"steps": 60, "members": 1, "hidden": 16})
    model = stream_detector.fit(numbers[:600], schema, config, device="cpu")
    exact = [{"features": dict(zip(NUMBERS, map(float, row), strict=True))} for row in numbers]
    as_json, _ = drain(broker, [json.dumps(row).encode() for row in exact], model)
    as_vectors, _ = drain(broker, [vector(NUMBERS, row["features"]) for row in exact], model, format="float32")
    assert alerts(as_vectors) == alerts(as_json)


def values(config, topic):
    return [message.value() for message in everything(config, topic)]
