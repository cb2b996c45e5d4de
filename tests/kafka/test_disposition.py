"""Every record ends as exactly one of normal, flagged, dead-lettered, whatever is in it."""

import json
import time
from functools import cache
from types import SimpleNamespace

import pytest
from confluent_kafka import Producer
from workload import (
    Running,
    alerts,
    alter,
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

from stream_detector.audit.backtest import backtest
from stream_detector.records import Alert
from stream_detector.worker.pipeline import DriftWatch

RECORDS = 5_000
SHARE = 100  # one record in so many, of every kind of poison
LIMIT = 4_096  # bytes
STAMP = 1_000 * int(time.time()) - 3_599_877  # an hour ago: retention would delete much older records
ORIGINAL = [("trace", b"\x00\xff"), ("empty", b""), ("none", None)]

POISON = {
    "undecodable": [
        b"\x80\xff\x00 bytes",
        b"",
        b"{",
        b'{"features": {"cpu": NaN}}',
        b'{"features": {"cpu": Infinity}}',
    ],
    "not-an-object": [b"[1]", b'"text"', b"3", b"null"],
    "wrong-type": [record(cpu="fast"), record(cpu=[1]), record(kind=3)],
    "non-finite": [record(cpu=1e308), record(cpu=-1e39)],
    "too-large": [record(pad="x" * LIMIT)],
    "too-deep": [json.dumps({"features": {}, "deep": json.loads("[" * 20 + "]" * 20)}).encode()],
    "string-too-long": [record(kind="k" * 257)],
    "missing-feature": [record(cpu=None)],
    "no-features": [b"{}", b'{"features": 3}', b'{"features": null}'],
    "tombstone": [None],
}


def poisoned():
    """Telemetry in which one record in 100 is of each kind of poison; and the kinds by position."""
    values, kinds = list(telemetry(RECORDS, seed=5)), {}
    for slot, (reason, samples) in enumerate(POISON.items()):
        for turn, at in enumerate(range(slot * 7, RECORDS, SHARE)):
            values[at], kinds[at] = samples[turn % len(samples)], reason
    return values, kinds


SECTIONS = {
    "threshold": {"window": 1_000, "warmup": 200, "target_alert_rate": 0.01},
    "record": {"max_bytes": LIMIT},
}


@pytest.fixture
def config(broker):
    return fresh_config(broker, **SECTIONS)


def drain(config):
    with Running(config, small_model(), until_end=True) as running:
        return running.join()


def as_bytes(message):
    """All of a record that a dead letter must carry on."""
    return message.key(), message.value(), message.timestamp()


@pytest.fixture(scope="module")
def drained(broker):
    """A configuration whose worker has read poisoned telemetry, its summary, and the kinds of poison by position."""
    config, (values, kinds) = fresh_config(broker, **SECTIONS), poisoned()
    feed(config, values, headers=ORIGINAL, timestamp=STAMP)
    return config, drain(config), kinds


@pytest.mark.telling
def test_every_record_ends_in_exactly_one_way(drained):
    """Among poison of every kind, normal + flagged + dead-lettered = consumed, and all offsets are committed."""
    config, summary, kinds = drained
    found, letters = alerts(config), dead_letters(config)
    assert summary.records == RECORDS == summary.normal + summary.flagged + sum(summary.dead_lettered.values())
    assert (summary.flagged, sum(summary.dead_lettered.values())) == (len(found), len(letters))
    assert not set(found) & set(letters)
    assert committed(config) == ends(config)
    assert summary.dead_lettered == {reason: list(kinds.values()).count(reason) for reason in POISON}


@pytest.mark.telling
def test_a_dead_letter_is_its_original_to_the_byte(drained):
    """Key, value, timestamp and every header of the original come through untouched, then the reasons follow."""
    config, _, kinds = drained
    sources = {(m.partition(), m.offset()): m for m in everything(config, config.topics.telemetry[0])}
    letters = dead_letters(config)
    assert sorted(letters) == sorted((at % 3, at // 3) for at in kinds)
    for source, letter in letters.items():
        assert as_bytes(letter) == as_bytes(sources[source])
        assert letter.headers()[: len(ORIGINAL)] == ORIGINAL
        reason = dict(letter.headers())["__connect.errors.exception.class.name"].decode()
        assert reason == kinds[source[1] * 3 + source[0]]


def test_transaction_markers_are_no_records(config):
    """In a topic written by transactions, some aborted, each committed record counts once and nothing is left over."""
    producer = Producer(
        {"bootstrap.servers": config.kafka.bootstrap_servers, "transactional.id": f"feed-{config.kafka.slot}"}
    )
    producer.init_transactions(30)
    values = list(telemetry(1_200, seed=6))
    for start in range(0, len(values), 100):
        producer.begin_transaction()
        for at in range(start, start + 100):
            producer.produce(config.topics.telemetry[0], values[at], partition=at % 3)
        if (start // 100) % 3 == 1:
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
    summary = drain(config)
    assert summary.records == 800
    assert committed(config) == ends(config)
    drain(config)
    assert len(alerts(config)) == summary.flagged


def test_a_dead_letter_too_large_for_its_topic_is_described(config):
    """What the broker will not take whole goes as its beginning, length and digest; no record is lost for it."""
    alter(config, config.topics.dead_letters, {"max.message.bytes": 50_000})
    large = record(pad="x" * 200_000)
    feed(config, [*telemetry(300, seed=7), large, b"small poison", *telemetry(300, seed=8)])
    summary = drain(config)
    letters = list(dead_letters(config).values())
    assert summary.records == 602
    assert committed(config) == ends(config)
    by_size = {dict(letter.headers()).get("stream-detector.truncated.bytes"): letter for letter in letters}
    assert by_size[None].value() == b"small poison"
    assert large.startswith(by_size[str(len(large)).encode()].value())


POISON_AT = 1_501
PLACE = (POISON_AT % 3, POISON_AT // 3)


SHORT = {"window": 100, "warmup": 50, "target_alert_rate": 0.02, "slack": 20}  # so short that one score shows


@pytest.fixture(scope="module")
def undisturbed(broker):
    """`undisturbed(values)`: the alerts on them where no step breaks, found once for equal values."""

    @cache
    def found(*values):
        config = fresh_config(broker, threshold=SHORT)
        feed(config, values)
        drain(config)
        return alerts(config)

    return found


@pytest.mark.parametrize("stage", ["score", "explain", "tell", "watch"])
def test_a_record_that_breaks_a_step_is_isolated(broker, undisturbed, stage, monkeypatch):
    """One record on which any step between log and transaction fails becomes a dead letter; all others are judged as ever.

    If it can be scored it has its place in the window, so that a threshold rebuilt later is the same; a
    backtest, too, goes around it.
    """
    config = fresh_config(broker, threshold=SHORT)
    values = list(telemetry(3_000, seed=9, anomalies=0.01))
    poison = record(cpu=-345.6)  # anomalous, or it would not be explained
    values[POISON_AT] = poison
    feed(config, values)
    model = Brittle(small_model(), stage, breaks_at=poison)
    undo = break_step(stage, monkeypatch)
    with Running(config, model, until_end=True) as running:
        summary = running.join()
    assert list(dead_letters(config)) == [PLACE]
    assert summary.dead_lettered == {"scoring-error": 1}
    assert summary.records == 3_000
    assert committed(config) == ends(config)
    again = backtest(config, model, 0, None, lambda *_: None)
    assert not again.lost
    assert [(place.partition, place.offset) for place in again.added] == [PLACE] * (stage in {"tell", "watch"})
    undo()
    if stage == "score":
        values[POISON_AT] = b"no score"
    expected = {place: verdict for place, verdict in undisturbed(*values).items() if place != PLACE}
    assert alerts(config) == expected


def break_step(stage, monkeypatch):
    """Makes a step behind the model fail on the poison; returns what mends it."""

    def fails(alert):
        return (alert.partition, alert.offset) == PLACE

    def to_json(alert, real=Alert.to_json):
        return 1 / 0 if fails(alert) else real(alert)

    def events(watch, outcome, *others, real=DriftWatch.events):
        return 1 / 0 if any(map(fails, outcome.alerts)) else real(watch, outcome, *others)

    if stage == "tell":
        monkeypatch.setattr(Alert, "to_json", to_json)
    if stage == "watch":
        monkeypatch.setattr(DriftWatch, "events", events)
    return monkeypatch.undo


class Brittle:
    """A real model that fails on one record, as a model's bug would make it."""

    def __init__(self, model, stage, breaks_at):
        self._model, self._stage = model, stage
        self._row = model.score([json.loads(breaks_at)["features"]]).anomaly[0]

    def __getattr__(self, name):
        return getattr(self._model, name)

    def score(self, X):
        return self._broken("score", X) or self._model.score(X)

    @property
    def scorer(self):
        """For large batches, of which a part is scored while the next is decoded."""
        real = self._model.scorer

        def measured(shown, own):
            rows, normalised = shown
            return self._broken("score", rows) or real.measured(normalised, own)

        return SimpleNamespace(
            normaliser=lambda rows: (rows, real.normaliser(rows)),
            measured=measured,
            screened=real.screened,
            panel=real.panel,
        )

    def explain(self, X):
        return self._broken("explain", X) or self._model.explain(X)

    def _broken(self, stage, X):
        if stage == self._stage and len(X) and self._row in self._model.score(X).anomaly:
            raise ArithmeticError("the model's bug")
