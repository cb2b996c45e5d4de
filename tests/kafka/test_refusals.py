"""A message that its topic refuses arrives in another form; nothing stops, and nothing is lost or doubled."""

import json
import time
from dataclasses import replace
from hashlib import sha256

import pyarrow as pa
import pytest
import raw_records
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from raw_records import RawRecord
from structlog.testing import capture_logs
from workload import (
    THRESHOLD,
    Running,
    alerts,
    committed,
    dead_letters,
    ends,
    everything,
    feed,
    fresh_config,
    record,
    small_model,
    telemetry,
)

from stream_detector.errors import KafkaError
from stream_detector.records.comparison import Comparison
from stream_detector.worker.partitions.assignment import Assignment
from stream_detector.worker.shadow import Shadow

zstd = pa.Codec("zstd").compress
HOUR = 3_600_000  # milliseconds
TAKES_ALL = {"max.message.bytes": 8_000_000, "message.timestamp.after.max.ms": 2**63 - 1}
FLAGGED = record(cpu=900.0, latency=400.0)
EVERY_RECORD = {"regime_share": 0.001, "cooldown": 0}

DEFAULT = {"max.message.bytes": 1_048_588}  # Kafka's own; the embedded broker takes more
TOPICS = {
    "default": DEFAULT,
    "small": {"max.message.bytes": 10_000},
    "tiny": {"max.message.bytes": 1_000},
    "compacted": {"cleanup.policy": "compact"},
    "broker's time": {"message.timestamp.type": "LogAppendTime"},
    "narrow": {"message.timestamp.before.max.ms": 60_000, "message.timestamp.after.max.ms": 60_000},
    "all": {
        "max.message.bytes": 2_000,
        "cleanup.policy": "compact",
        "message.timestamp.before.max.ms": 60_000,
        "message.timestamp.after.max.ms": 60_000,
    },
}


def hostile(now):
    """Unusable and flagged records that topics have something against: (value, key, headers, timestamp)."""
    large, many = b"k" * 1_000_000, [(f"h{at}", b"x" * 40) for at in range(500)]
    for value in (b"not json", FLAGGED):
        for at in range(8):  # as many as show that it does not take a try a message
            yield value, None, [], now + (2 + at) * HOUR
            yield value, b"key" * at, [], now - (2 + at) * HOUR
            yield value, b"k" * 3_000 * at, [], now
        yield value, large, [], now
        yield value, large, [("name", b"content")], now + 48 * HOUR
        yield value, None, [("huge", b"h" * 900_000), ("name", b"content")], now
        yield value, b"key", many, now
    yield b"x" * 200_000, b"key", many, now - 30 * 24 * HOUR
    yield None, None, [], now + 48 * HOUR


def alter(config, topic, settings):
    from stream_detector.kafka.clients import admin

    set_to = AlterConfigOpType.SET
    entries = [ConfigEntry(name, str(value), incremental_operation=set_to) for name, value in settings.items()]
    client = admin(config.kafka)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    for future in client.incremental_alter_configs([resource]).values():
        future.result()


def write(config, records):
    producer = Producer({"bootstrap.servers": config.kafka.bootstrap_servers, "message.max.bytes": 8_000_000})
    for value, key, headers, timestamp in records:
        producer.produce(config.topics.telemetry[0], value, key, 0, headers=headers, timestamp=timestamp)
    assert producer.flush(60) == 0


@pytest.mark.parametrize("settings", TOPICS.values(), ids=TOPICS)
def test_every_message_has_a_form_that_its_topic_takes(broker, settings):
    """Alerts, dead letters and control events arrive once each, whatever their topics refuse, within few tries."""
    config = fresh_config(broker, threshold=THRESHOLD, drift=EVERY_RECORD)
    alter(config, config.topics.telemetry[0], TAKES_ALL)
    for topic in (config.topics.alerts, config.topics.dead_letters, config.topics.control):
        alter(config, topic, settings)
    feed(config, telemetry(300))
    sent = list(hostile(int(time.time() * 1000)))
    write(config, sent)
    with Running(config, small_model(), until_end=True) as running:
        summary = running.join()
    found, letters = alerts(config), dead_letters(config)  # which see to it that each is there once, and parses
    assert summary.records == 300 + len(sent)
    assert committed(config) == ends(config)
    assert (summary.outputs_left_out, summary.flagged, sum(summary.dead_lettered.values())) == (
        0,
        len(found),
        len(letters),
    )
    flagged = {(0, 100 + at) for at, (value, *_) in enumerate(sent) if value == FLAGGED}
    assert flagged <= set(found)
    assert summary.aborts <= 25
    assert len(everything(config, config.topics.control)) == summary.control_events > 0
    for (_, offset), letter in letters.items():
        is_described(letter, *sent[offset - 100], settings)


def is_described(letter, value, key, headers, timestamp, settings):
    """What of a record its dead letter does not hold untouched, it names."""
    told = dict(letter.headers())
    for part, whole, name in ((letter.value(), value, ""), (letter.key(), key, "key.")):
        about = f"stream-detector.truncated.{name}"
        if about + "bytes" in told:
            assert whole.startswith(part)
            assert (told[about + "bytes"], told[about + "sha256"]) == (
                str(len(whole)).encode(),
                sha256(whole).hexdigest().encode(),
            )
        else:
            assert part == whole or (whole is None and settings.get("cleanup.policy") == "compact")
    kept = [header for header in letter.headers() if header in headers]
    assert len(headers) - len(kept) == int(told.get("stream-detector.truncated.headers", 0))
    assert timestamp in (letter.timestamp()[1], int(told.get("stream-detector.original.timestamp", -1)))


@pytest.mark.telling
def test_an_alert_with_a_key_cut_short_says_so(broker):
    """With all defaults a flagged record may have a key that leaves no room for its alert; its alert arrives."""
    config = fresh_config(broker, threshold=THRESHOLD)
    alter(config, config.topics.alerts, DEFAULT)
    feed(config, telemetry(300))
    key = b"k" * 1_048_350
    write(config, [(FLAGGED, key, [], 0)])
    with Running(config, small_model(), until_end=True) as running:
        running.join()
    [alert] = [each for each in everything(config, config.topics.alerts) if len(each.key()) > 1_000]
    told = dict(alert.headers())
    assert key.startswith(alert.key())
    assert told["stream-detector.truncated.key.sha256"] == sha256(key).hexdigest().encode()
    assert told["ce_id"].decode() == json.loads(alert.value())["id"] == f"{config.topics.telemetry[0]}-0-100"


def test_a_comparison_fits_its_topic(broker):
    """Examples are left out of a comparison that its topic finds too large; what it counts is not."""
    config = fresh_config(broker)
    alter(config, config.topics.shadow, {"max.message.bytes": 1_000})
    told = Comparison("c" * 64, "d" * 64, 1_000, 30, 20, 5, ("telemetry-0-12345",) * 20, ("telemetry-1-54321",) * 15)
    shadow = Shadow(config, Assignment(judge=None))
    shadow._settled = [told]
    shadow.send()
    shadow.close()
    [message] = everything(config, config.topics.shadow)
    found = Comparison.from_json(message.value())
    assert replace(found, added=told.added, lost=told.lost) == told
    assert shadow.left_out == 0


def test_what_has_no_form_left_is_named_and_counted(broker):
    """A topic that takes next to nothing costs its messages, each with a line of its own, and not the partition."""
    config = fresh_config(broker, threshold=THRESHOLD)
    alter(config, config.topics.dead_letters, {"max.message.bytes": 200})
    feed(config, [*telemetry(300), b"one", b"two", *telemetry(300, seed=3)])
    with capture_logs() as logs, Running(config, small_model(), until_end=True) as running:
        summary = running.join()
    named = [entry["record"] for entry in logs if entry["event"].startswith("message left out")]
    assert sorted(named) == [f"{config.topics.telemetry[0]}-{at % 3}-{at // 3}" for at in (300, 301)]
    assert (summary.records, summary.outputs_left_out, summary.dead_lettered) == (602, 2, {"undecodable": 2})
    assert committed(config) == ends(config)
    assert len(alerts(config)) == summary.flagged


@pytest.mark.parametrize("settings", [{"max.message.bytes": 50}, {"message.timestamp.before.max.ms": 0}], ids=str)
def test_a_topic_that_takes_no_markers_ends_the_run(broker, settings):
    """Where brokers cannot end a transaction no form helps: the run ends, names topics and limits, and commits nothing."""
    worker = {"unavailable_timeout_ms": 5_000, "transaction_timeout_ms": 3_000, "session_timeout_ms": 6_000}
    config = fresh_config(broker, threshold=THRESHOLD, worker=worker)
    alter(config, config.topics.alerts, settings)
    feed(
        config, [*[FLAGGED] * 3, *telemetry(300)]
    )  # each partition begins with an alert: without one it may be committed
    with pytest.raises(KafkaError) as caught, Running(config, small_model()) as running:
        running.join()
    assert caught.value.exit_code == 5
    assert config.topics.alerts in str(caught.value)
    assert next(iter(settings)) in str(caught.value)
    assert set(committed(config).values()) <= {0, None}


def test_records_that_cannot_be_inflated_end_the_run(broker):
    """A batch beyond what the client inflates comes again and again: the run ends with a line that says where, not never."""
    config = fresh_config(broker, threshold=THRESHOLD)
    feed(config, telemetry(30), partitions=1)
    huge = RawRecord(bytes(101_000_000), timestamp=int(time.time() * 1000))
    raw_records.write(
        config, config.topics.telemetry[0], [huge], codec=4, compress=lambda body: zstd(body, asbytes=True)
    )
    said = r"partition 0.* inflates to more than 100 MB"
    with pytest.raises(KafkaError, match=said) as caught, Running(config, small_model()) as running:
        running.join()
    assert caught.value.exit_code == 5
