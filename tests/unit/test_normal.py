"""Which records of a window a model may learn from: each rule alone, then all of them on a window."""

from datetime import UTC, datetime

import numpy as np
import pytest

from stream_detector.config import Config
from stream_detector.config.retrain_section import Interval
from stream_detector.errors import DataError
from stream_detector.retraining.normal import AlertLabels, doubtful, excluded, marked, over_share, strongest
from stream_detector.retraining.split import GuardBand, split_window
from stream_detector.retraining.telemetry_window import TelemetryRecord

START = 1_700_000_000_000


def window(count, entities=("a", "b", "c", "d", "e")):
    """Records a second apart in one partition, of the entities in turn."""
    return [
        TelemetryRecord(
            source(at), ("t", 0, at), START + 1000 * at, entities[at % len(entities)] if entities else None, {"x": 1.0}
        )
        for at in range(count)
    ]


def source(at):
    return f"t-0-{at}"


def config(**retrain):
    return Config(threshold={"target_alert_rate": 0.03}, retrain={"least_records": 100, **retrain})


def test_an_interval_takes_what_was_written_in_it():
    """The begin is in, the end is out; a time without a zone is UTC."""
    times = [datetime.fromtimestamp(START / 1000 + at, UTC).replace(tzinfo=None) for at in (2, 4)]

    assert excluded(window(6), [Interval(begin=times[0], end=times[1])]).tolist() == [0, 0, 1, 1, 0, 0]


def test_one_entity_may_not_fill_the_window():
    """Of an entity beyond its share as many remain as it allows, evenly spaced; the others are untouched."""
    records = window(40, "aaaaaaab" + "cdef")
    dropped = over_share(records, np.ones(40, dtype=bool), 0.25)
    left = [record.entity for record, gone in zip(records, dropped, strict=True) if not gone]

    assert left.count("a") == 10
    assert sorted(set(left)) == sorted("abcdef")
    assert {record.entity for record, gone in zip(records, dropped, strict=True) if gone} == {"a"}
    kept = [at for at, gone in enumerate(dropped) if not gone and records[at].entity == "a"]
    assert kept[0] == 0
    assert kept[-1] > 30


@pytest.mark.parametrize("entities", ["a", "ab", None])
def test_few_entities_share_equally(entities):
    """Where there are fewer entities than the share asks for, or none, nothing is taken."""
    assert not over_share(window(40, entities), np.ones(40, dtype=bool), 0.25).any()


def test_what_a_person_cleared_is_no_doubt():
    """Flagged or suspicious records are doubtful, unless somebody has called the alert false."""
    labels = AlertLabels(flagged=frozenset(map(source, (0, 1))), cleared=frozenset(map(source, (1, 2))))
    scores = np.array([1, 1, 9, 9, 1], dtype=np.float32)

    assert doubtful(window(5), labels, scores, 3.0).tolist() == [1, 0, 0, 1, 0]
    assert doubtful(window(5), labels, None, 3.0).tolist() == [1, 0, 0, 0, 0]
    assert marked(window(3), {source(2)}).tolist() == [0, 0, 1]


def test_doubt_takes_the_most_anomalous_up_to_its_share():
    """No more than the share, and never what is not doubtful."""
    doubt = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=bool)
    scores = np.array([5, 9, 7, 99, 0, 0, 0, 0, 0, 0], dtype=np.float32)

    assert np.flatnonzero(strongest(doubt, scores, 0.2)).tolist() == [1, 2]
    assert np.flatnonzero(strongest(doubt, scores, 0.9)).tolist() == [0, 1, 2]
    assert not strongest(doubt, scores, 0.05).any()


def test_a_window_is_cut_by_time_with_every_reason_counted():
    """Train, selection, calibration and hold-out follow each other; what is missing is counted once each."""
    records = window(2000)
    labels = AlertLabels(
        flagged=frozenset(map(source, range(0, 2000, 50))), anomalous=tuple(map(source, range(0, 2000, 100)))
    )
    scores = np.where(np.arange(2000) % 20 == 7, 5.0, 1.0).astype(np.float32)
    parts = split_window(records, labels, GuardBand(scores, 3.0), config())

    ordered = [
        record.time_ms for part in (parts.train, parts.selection, parts.calibration, parts.holdout) for record in part
    ]
    assert ordered == sorted(set(ordered))
    assert sum(parts.sizes().values()) + sum(parts.left_out.values()) == 2000
    assert parts.left_out["called-anomalous"] == 20
    assert set(parts.left_out) == {"called-anomalous", "flagged", "guard-band"}
    taken = {record.id for record in parts.train}
    assert not taken & labels.flagged.union(labels.anomalous, (source(at) for at in range(7, 1200, 20)))


def test_calibration_keeps_the_tail_of_the_normal():
    """Of the records to calibrate and try on, doubt takes no more than the rolling threshold makes up for."""
    scores = np.linspace(0, 4, 2000).astype(np.float32)[np.random.default_rng(0).permutation(2000)]
    parts = split_window(window(2000), AlertLabels(), GuardBand(scores, 3.0), config())

    assert len(parts.calibration) + len(parts.holdout) == 600 - 3 - 3  # a third of the target rate of each 300
    assert parts.left_out == {"guard-band": 2000 - sum(parts.sizes().values())}
    assert len(parts.train) == 1200 - 240  # most_doubtful: a fifth


def test_too_few_normal_records_is_one_line_with_the_reasons():
    """What remained, what was asked for, and why the others were left out."""
    labels = AlertLabels(anomalous=tuple(map(source, range(60))))

    with pytest.raises(DataError, match=r"90 normal records of telemetry remain of 150 \(called-anomalous 60\)"):
        split_window(window(150), labels, None, config())
