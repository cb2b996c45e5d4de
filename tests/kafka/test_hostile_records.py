"""Records of random bytes: each ends in exactly one way, and the good ones behind them are judged as if alone."""

import os
import random

import pytest
from raw_records import RawRecord, hostile, write
from workload import (
    Running,
    alerts,
    alter,
    committed,
    dead_letters,
    ends,
    feed,
    fresh_config,
    small_model,
    telemetry,
)

from stream_detector.audit.backtest import backtest
from stream_detector.kafka import recent
from stream_detector.retraining.telemetry_window import read_window

THRESHOLD = {"window": 300, "warmup": 100, "target_alert_rate": 0.02}
RECORDS = int(os.environ.get("HOSTILE_RECORDS", "5000"))
AT_ONCE = 250  # records in one request
LATE = 400  # ordinary records, behind the hostile ones
ANY_TIME = {  # the largest number that Kafka has
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "retention.ms": "-1",
    "segment.ms": str(2**63 - 1),
}


@pytest.fixture
def config(broker):
    """Topics that take records of any time, and keep them; what else refuses a time is not the matter here."""
    config = fresh_config(broker, threshold=THRESHOLD, topics={"partitions": 1})
    for topic in (config.topics.telemetry[0], config.topics.dead_letters):
        alter(config, topic, ANY_TIME)
    return config


def drain(config):
    with Running(config, small_model(), until_end=True) as running:
        return running.join(timeout=60 + RECORDS / 100)


def shown(record):
    """The headers that a dead letter must have of its original, and what of them is lost, by the rules of docs/records.md."""
    headers, lost = [], None
    for name, content in record.headers:
        try:
            text = name.split(b"\0")[0].decode()
        except UnicodeDecodeError:
            text, lost = "stream-detector.original.unreadable-name", b"headers"
        else:
            ours = text.startswith(("__connect.errors.", "stream-detector."))
            text = "stream-detector.original." + text if ours else text
        headers.append((text, content))
    return headers, lost


def assert_carries(letter, record, at):
    """Checks a dead letter against its original."""
    headers, lost = shown(record)
    every = letter.headers()
    assert (letter.key(), letter.value()) == (record.key, record.value), at
    assert every[: len(headers)] == headers, at
    names = [name for name, _ in every]
    assert names.count("__connect.errors.topic") == 1, at
    assert dict(every).get("stream-detector.lost") == lost, at
    if record.timestamp:
        assert letter.timestamp() == (1, record.timestamp), at
    else:
        assert dict(every)["stream-detector.original.timestamp"] == b"0", at


@pytest.mark.slow
@pytest.mark.timeout(300 + RECORDS // 25)
def test_every_record_of_random_bytes_ends_in_exactly_one_way(broker, config):
    """Random names, headers, keys, times and values: a dead letter that carries its original, or a judgement.

    The good ones among them and behind them raise the alerts that they would raise alone, over a restart, too,
    when the threshold is rebuilt from the hostile ones; a backtest and a retraining read them as well.
    HOSTILE_RECORDS says how many.
    """
    rng = random.Random(16)
    good = list(telemetry(RECORDS, seed=16, anomalies=0.05))
    records = [hostile(rng, value) for value in good]
    usable = [at for at, record in enumerate(records) if record.value == good[at]]
    for start in range(0, RECORDS, AT_ONCE):
        write(config, config.topics.telemetry[0], records[start : start + AT_ONCE])
    late = list(telemetry(LATE, seed=17, anomalies=0.05))
    first = drain(config)
    feed(config, late, partitions=1)
    second = drain(config)

    assert (first.records, second.records) == (RECORDS, LATE)
    assert first.normal + first.flagged == len(usable)
    assert second.normal + second.flagged == LATE
    assert committed(config) == ends(config)
    letters = dead_letters(config)
    assert sorted(at for _, at in letters) == sorted(set(range(RECORDS)) - set(usable))
    for (_, at), letter in letters.items():
        assert_carries(letter, records[at], at)

    found = alerts(config)
    alone = fresh_config(broker, threshold=THRESHOLD, topics={"partitions": 1})
    feed(alone, [good[at] for at in usable] + late, partitions=1)
    drain(alone)
    where = [*usable, *range(RECORDS, RECORDS + LATE)]
    assert found == {(0, where[at]): verdict for (_, at), verdict in alerts(alone).items()}
    assert len(found) == first.flagged + second.flagged > 0

    again = backtest(config, small_model(), 0, None, lambda *_: None)
    assert not again.added
    reach = recent.reach(config, RECORDS + LATE)
    assert len(read_window(config, reach, lambda *_: None).records) == len(usable) + LATE


def test_one_unreadable_header_ends_no_worker(config):
    """A record with a header whose name is no text is one dead letter, its readable headers kept; its neighbours are judged."""
    values = list(telemetry(2, seed=1))
    headers = ((b"a", b"1"), (b"\xff", b"2"), (b"b", None), (b"\xed\xa0\x80", None), (b"c\0d", b""))
    records = [RawRecord(values[0]), RawRecord(b"x", b"k", headers, 5), RawRecord(values[1], headers=headers)]
    write(config, config.topics.telemetry[0], records)
    summary = drain(config)
    [letter] = dead_letters(config).values()
    assert summary.records == 3
    assert_carries(letter, records[1], 1)
    assert letter.headers()[4] == ("c", b"")
    assert dict(letter.headers())["__connect.errors.exception.class.name"] == b"undecodable"
