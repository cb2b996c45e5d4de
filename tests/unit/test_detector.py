"""The record road on a real model: conservation, and independence of how the log is cut."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
from messages import Stored

import stream_detector
from stream_detector import detector
from stream_detector.config import RecordConfig, ThresholdConfig
from stream_detector.detector import detect, history, limits
from stream_detector.records import Decoder
from stream_detector.scoring.threshold import FLAG_ALL, RollingThreshold

if TYPE_CHECKING:
    from stream_detector.records import Alert, DeadLetter

RECORD = Decoder(RecordConfig())
THRESHOLD = ThresholdConfig(target_alert_rate=0.02, window=200, warmup=50)


def stored(partition, offset, value):
    """A message with one of three keys and the time of its offset."""
    return Stored(offset, value, partition, f"k{offset % 3}".encode(), stamp=(1, 1_700_000_000_000 + offset))


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(1)
    normal = [row(rng) for _ in range(600)]
    return stream_detector.fit(normal, config=stream_detector.ModelConfig(model={"steps": 150}), seed=3)


def row(rng, shift=0.0):
    base = rng.normal()
    return {"a": base + shift, "b": 2 * base + 0.1 * rng.normal(), "kind": "x" if base > 0 else "y"}


@pytest.fixture(scope="module")
def log():
    """Two partitions, 500 records each: mostly normal, some far off, some unusable."""
    rng = np.random.default_rng(2)
    messages = []
    for offset in range(500):
        for partition in (0, 1):
            value = orjson.dumps({"id": f"r{offset}", "features": row(rng, 8.0 if offset % 97 == 5 else 0.0)})
            if offset % 50 == 7:
                value = (None, b"{", b'{"features":{"a":[]}}')[offset % 3]
            messages.append(stored(partition, offset, value))
    return messages


def fresh(model):
    bounds = limits(model, THRESHOLD)
    return {("telemetry", partition): RollingThreshold(bounds) for partition in (0, 1)}


def play(messages, model, size, thresholds=None):
    thresholds = thresholds or fresh(model)
    alerts: list[Alert] = []
    letters: list[DeadLetter] = []
    normal = 0
    for start in range(0, len(messages), size):
        outcome = detect(messages[start : start + size], model, thresholds, RECORD)
        alerts += outcome.alerts
        letters += outcome.dead_letters
        normal += outcome.normal
    return [replace(a, detection_time="") for a in alerts], letters, normal


def test_every_record_ends_once(model, log):
    """Normal, flagged and dead-lettered add up to what was consumed, each offset once."""
    alerts, letters, normal = play(log, model, 100)
    assert normal + len(alerts) + len(letters) == len(log)
    assert {(m.partition(), m.offset()) for m in log if len(m.value() or b"") < 30} == {
        (letter.partition, letter.offset) for letter in letters
    }
    assert len({a.id for a in alerts}) == len(alerts)


def test_the_far_off_records_are_flagged_and_explained(model, log):
    """Records that broke the correlation are flagged, and the broken feature leads the explanation."""
    alerts, _, _ = play(log, model, 100)
    shifted = {(p, o) for p in (0, 1) for o in range(500) if o % 97 == 5}
    assert shifted <= {(a.partition, a.offset) for a in alerts}
    for alert in alerts:
        assert sum(c.contribution for c in alert.contributions) == pytest.approx(1, abs=1e-6)
        if (alert.partition, alert.offset) in shifted:
            assert alert.contributions[0].feature in {"a", "b"}
            assert alert.score > alert.threshold


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_how_the_log_is_cut_changes_nothing(model, log, size):
    """Any batch size gives identical alerts, scores and thresholds, to the last digit."""
    messages = log if size > 1 else log[:120]
    reference = play(messages, model, 333)
    assert play(messages, model, size) == reference


@pytest.mark.parametrize("least", [1, 50, 400])
def test_parts_that_are_scored_meanwhile_change_nothing(model, log, monkeypatch, least):
    """A batch cut into parts, each scored while the next is decoded, gives what it gives in one piece."""
    whole = play(log, model, 1000)
    monkeypatch.setattr(detector, "LEAST", least)
    assert play(log, model, 1000) == whole


@pytest.mark.parametrize("most", [1, 7, 1_000])
def test_a_flood_is_explained_in_parts_with_signs_of_life_between(model, log, monkeypatch, most):
    """The alerts are those of one piece, and between two signs no more is explained than one part."""
    whole = detect(log, model, {place: RollingThreshold(FLAG_ALL) for place in fresh(model)}, RECORD).alerts
    monkeypatch.setattr(detector, "EXPLAINED", most)
    explain, since, parts = type(model).explain, [0], []

    def counted(self, records):
        since[0] += len(explained := explain(self, records))
        return explained

    def beat():
        parts.append(since[0])
        since[0] = 0

    monkeypatch.setattr(type(model), "explain", counted)
    thresholds = {place: RollingThreshold(FLAG_ALL) for place in fresh(model)}
    found = detector.finish(detector.begin(log, model, RECORD), thresholds, beat=beat).alerts
    assert [replace(a, detection_time="") for a in found] == [replace(a, detection_time="") for a in whole]
    assert len(whole) > 900
    assert (max(parts), sum(parts)) == (min(most, len(whole)), len(whole))


def test_a_threshold_rebuilt_from_history_goes_on_the_same(model, log):
    """Re-reading the window before a restart gives the alerts of an uninterrupted run."""
    cut = 600
    whole = play(log, model, 50)[0]
    thresholds = fresh(model)
    for (_, partition), threshold in thresholds.items():
        earlier = [m for m in log[:cut] if m.partition() == partition]
        threshold.learn(history(earlier, model, RECORD)[-THRESHOLD.window :])
    resumed = play(log[cut:], model, 50, thresholds)[0]
    assert resumed == [a for a in whole if a.offset >= cut // 2]


def test_limits_come_from_the_calibration(model):
    """The ceiling lies above the nominal threshold, the floor below it."""
    bounds = limits(model, THRESHOLD)
    assert bounds.floor < bounds.nominal < bounds.ceiling


def test_a_flood_of_far_records_is_flagged_to_its_end(model):
    """Four of five records far above normal, for three windows: most of them are flagged, the last as the first.

    A worker that lets the threshold follow them, or a calibration by which they score below the threshold's
    ceiling, goes silent in the midst of an attack.
    """
    rng = np.random.default_rng(4)
    bounds = ThresholdConfig(target_alert_rate=0.001, window=200, warmup=50)
    flood = [offset >= 200 and offset % 5 > 0 for offset in range(800)]
    rows = [row(rng, 8.0 if far else 0.0) for far in flood]
    log = [stored(0, offset, orjson.dumps({"features": each})) for offset, each in enumerate(rows)]
    thresholds = {("telemetry", 0): RollingThreshold(limits(model, bounds))}
    alerts, _, _ = play(log, model, 64, thresholds)
    flagged = {alert.offset for alert in alerts}
    for first in (200, 400, 600):
        far = {offset for offset in range(first, first + 200) if flood[offset]}
        assert len(far & flagged) > 0.95 * len(far)
    assert max(alert.threshold for alert in alerts) <= limits(model, bounds).ceiling
