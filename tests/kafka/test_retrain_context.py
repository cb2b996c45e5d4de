"""Retraining and the first fit from a topic read contexts as serving reads them: by real offsets, and what came before."""

import json
from functools import cache

import numpy as np
import pytest
from formats import batch
from workload import MODEL_CONFIG, contextual_model, entity_rows, entity_telemetry, feed, fresh_config

import stream_detector
from stream_detector.detector import detect, limits
from stream_detector.kafka import recent
from stream_detector.kafka.formats import decoder
from stream_detector.registry import store
from stream_detector.retraining.context_window import context_nines
from stream_detector.retraining.first_fit import fit_topics
from stream_detector.retraining.job import Trigger, _guard_band, repeat, retrain
from stream_detector.retraining.models_in_force import ModelsInForce
from stream_detector.retraining.normal import AlertLabels
from stream_detector.retraining.run import Plan
from stream_detector.retraining.telemetry_window import read_window
from stream_detector.scoring.threshold import RollingThreshold

COUNT = 1_800
CONTEXT = {"enabled": True, "epoch": 300, "history": 100, "most_entities": 20}
LENIENT = {
    "rate_factor": 1_000,
    "least_auc": 0.0,
    "least_coverage": 0.0,
    "threshold_move": 9.0,
    "threshold_move_since_approval": 9.0,
}


def quiet(*_):
    pass


@cache
def model_alone():
    """A model of the same features that judges records alone."""
    features = [features for _, _, features in entity_rows(600, seed=9)]
    return stream_detector.fit(features, config=stream_detector.ModelConfig(**MODEL_CONFIG), device="cpu")


@pytest.fixture
def fed(broker, tmp_path, no_pictures):
    """`fed(enabled=False)`: a configuration whose topic holds records of servers, and now and then what is none."""

    def make(**context):
        settings = {"records": 900, "least_records": 300, "runs": tmp_path / "runs", "gate": LENIENT}
        threshold = {"window": 500, "warmup": 100, "target_alert_rate": 0.02}
        sections = {"retrain": settings, "threshold": threshold, "context": CONTEXT | context}
        config = fresh_config(broker, model=MODEL_CONFIG["model"], **sections)
        values = list(entity_telemetry(COUNT, anomalies=0.0))
        for at in range(50, COUNT, 200):
            values[at] = b"{"
        feed(config, values)
        return config

    return make


def served(config, model, place, end):
    """What serving, from the first offset on, says of a partition's records, by offset: nines of contexts, and scores."""
    messages = [message for batch in recent.records(config, {place: (0, end)}) for message in batch]
    thresholds = {place: RollingThreshold(limits(model, config.threshold))}
    outcome = detect(messages, model, thresholds, decoder(config.record))
    found = {}
    for judged in outcome.judged:
        told = zip(judged.scores.views["context"].tolist(), judged.scores.anomaly.tolist(), strict=True)
        found |= dict(zip(judged.offsets.tolist(), told, strict=True))
    return found


def test_nines_of_contexts_are_those_of_serving(fed):
    """A window that begins where an epoch does has the contexts that a worker gives, to the bit; a hole has none."""
    config, model = fed(), contextual_model()
    place, start, end = (config.topics.telemetry[0], 1), 300, 600
    nines = context_nines(
        config, {place: (start, end)}, model, [f"{place[0]}-{place[1]}-{at}" for at in range(start, end)]
    )
    expected = served(config, model, place, end)
    assert len(expected) < end
    context = [expected.get(at, (np.nan, 0))[0] for at in range(start, end)]
    np.testing.assert_array_equal(nines, np.array(context, np.float32))
    assert np.isfinite(nines).sum() > 100
    assert context_nines(config, {place: (start, end)}, model_alone(), []) is None


def test_what_is_doubtful_is_so_by_the_context_too(fed):
    """The guard band holds records against the scores that the champion gave them in serving, to the bit."""
    config, champion = fed(), contextual_model()
    reach = {(config.topics.telemetry[0], partition): (300, 600) for partition in range(3)}
    window = read_window(config, reach, quiet)
    band = _guard_band(config, Plan("", "", reach, AlertLabels()), ModelsInForce(champion, None), window)
    scores = {place: served(config, champion, place, end) for place, (_, end) in reach.items()}
    expected = [scores[record.source[:2]][record.source[2]][1] for record in window.records]
    np.testing.assert_array_equal(band.scores, np.array(expected, np.float32))
    assert band.limit < limits(champion, config.threshold).nominal


def test_rows_of_messages_that_hold_many_have_their_own_contexts(broker):
    """Each row of an Arrow message is found by the id that its alert has, in the window that a retraining reads, too."""
    config = fresh_config(broker, record={"format": "arrow"})
    rows = [json.loads(value) for value in entity_telemetry(600, anomalies=0.0)]
    feed(config, [batch(rows[first : first + 40]) for first in range(0, 600, 40)], partitions=1)
    place, model = (config.topics.telemetry[0], 0), contextual_model()
    names = [record.id for record in read_window(config, {place: (0, 15)}, quiet).records]
    nines = context_nines(config, {place: (0, 15)}, model, names)
    assert len(names) == 600
    messages = [message for part in recent.records(config, {place: (0, 15)}) for message in part]
    thresholds = {place: RollingThreshold(limits(model, config.threshold))}
    judged = detect(messages, model, thresholds, decoder(config.record)).judged
    np.testing.assert_array_equal(nines, np.concatenate([each.scores.views["context"] for each in judged]))
    assert np.isfinite(nines).sum() > 100


def test_a_first_fit_knows_what_came_before_its_records(fed):
    """Records before those that are learnt from teach only, so that the first of these have full contexts, too."""
    little, much = (fit_topics(fed(epoch=600, history=history), 600, 0, quiet) for history in (60, 400))
    told = [model.lineage["context"] for model in (little, much)]
    assert [(each["entity"], each["time"]) for each in told] == [("entity", "time")] * 2
    assert told[1]["full"] > told[1]["records"] / 2 > told[0]["full"]


def test_a_retraining_keeps_the_specification_and_can_be_made_again(fed):
    """With an unchanged section a context's hash stays, and a repetition is equal to the byte."""
    config = fed()
    first = retrain(config, Trigger("test"), "tester", quiet)
    assert first.published, first.gate.failed
    feed(config, entity_telemetry(900, seed=3, anomalies=0.0))
    second = retrain(config, Trigger("test"), "tester", quiet)
    assert second.model.context.spec == first.model.context.spec
    assert second.model.context.spec.hash == first.model.context.spec.hash
    assert second.published, second.gate.failed
    assert repeat(config, second.run.path, quiet) == second.model.version
    meanings = {check.name: check.meaning for check in second.gate.checks}
    assert "each record alone" in meanings["synthetic-auc"]
    assert "each record alone" not in meanings["holdout-alert-rate"]


@pytest.mark.parametrize("enabled", [True, False])
def test_a_champion_of_the_other_kind_is_compared_with(fed, enabled):
    """A model with contexts is tried against one without, and the other way round, each as it would serve."""
    config = fed(enabled=enabled)
    champion = model_alone() if enabled else contextual_model()
    store.publish(config, champion.to_bytes(), "tester", "first", approved_by="tester")
    outcome = retrain(config, Trigger("test"), "tester", quiet)
    assert (outcome.model.context is not None) is enabled
    assert {"threshold-move", "threshold-move-approved", "holdout-alert-rate"} <= {
        each.name for each in outcome.gate.checks
    }
    assert outcome.model.version != champion.version
