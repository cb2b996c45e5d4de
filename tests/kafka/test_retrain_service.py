"""Retraining as a service: by the clock, on drift, and still there when a retraining went wrong."""

import threading
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

import pytest

from stream_detector.control import ControlEvent
from stream_detector.errors import ConfigError
from stream_detector.kafka import registry
from stream_detector.retraining.service import serve
from tests.workload import MODEL_CONFIG, feed, small_model, telemetry, until


@pytest.fixture
def make_own(make_config, tmp_path):
    """A configuration with quick fits, a lenient gate and runs of its own."""

    def make(gate=None, **retrain):
        lenient = {"least_auc": 0.5, "least_coverage": 0.0, "threshold_move": 9.0, "threshold_move_since_approval": 9.0}
        settings = {"records": 2_000, "least_records": 300, "runs": tmp_path / "runs", "gate": lenient | (gate or {})}
        threshold = {"window": 500, "warmup": 100, "target_alert_rate": 0.02}
        return make_config(model=MODEL_CONFIG["model"], threshold=threshold, retrain=settings | retrain)

    return make


@contextmanager
def serving(config):
    """The service in a thread; yields the outcomes it has shown so far."""
    stop, outcomes, faults = threading.Event(), [], []

    def work():
        try:
            serve(config, "service", stop, lambda: nullcontext(lambda *_: None), outcomes.append)
        except Exception as error:  # noqa: BLE001 - shown where the block ends
            faults.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield outcomes
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert not faults


def drift(config, partition, offset, model):
    now = datetime.now(UTC).isoformat()
    topic = config.topics.telemetry[0]
    return ControlEvent("drift", "e1", topic, partition, offset, "adwin", "score", model, now).to_json()


def test_drift_is_answered_with_a_model_of_what_came_after(make_own, produce):
    """An event under the model in force starts a retraining on the records from its offset on, once there are enough."""
    config = make_own()
    served = registry.publish(config, small_model().to_bytes(), "tester", "first").version
    feed(config, telemetry(300, anomalies=0.0))
    other = "0" * 64
    with serving(config) as outcomes:
        feed(config, telemetry(200, seed=1, anomalies=0.0))  # too few yet
        events = [b"junk", drift(config, 1, 10, other), drift(config, 1, 110, served), drift(config, 0, 5, served)]
        produce(config, config.topics.control, events)
        feed(config, telemetry(600, seed=2, anomalies=0.0))
        until(lambda: outcomes, "a retraining on drift", 90)

    assert outcomes[0].published, outcomes[0].verdict
    pointer = registry.current(config)
    assert pointer.version == outcomes[0].model.version
    assert "adwin on score" in pointer.why
    ranges = outcomes[0].model.lineage["offsets"]
    assert ranges[f"{config.topics.telemetry[0]}-1"][0] in range(100, 111)
    assert min(first for first, _ in ranges.values()) >= 90
    assert len(outcomes) == 1


def test_drift_that_was_not_answered_is_taken_up_again(make_own, produce):
    """After the cool-down, with what has come since, until another model serves."""
    config = make_own(gate={"least_auc": 1.0}, cooldown=3)
    served = registry.publish(config, small_model().to_bytes(), "tester", "first").version
    with serving(config) as outcomes:
        feed(config, telemetry(600, seed=1, anomalies=0.0))
        produce(config, config.topics.control, [drift(config, 0, 0, served)])
        until(lambda: outcomes, "a retraining on drift", 90)
        feed(config, telemetry(300, seed=2, anomalies=0.0))
        until(lambda: len(outcomes) == 2, "another one", 90)
        registry.publish(config, small_model(1).to_bytes(), "tester", "by hand")

    assert not any(outcome.published for outcome in outcomes)
    first, second = (sum(outcome.model.lineage["parts"].values()) for outcome in outcomes[:2])
    assert second > first


def test_the_clock_starts_retrainings_and_refusals_do_not_end_them(make_own):
    """Due at once without a model, again after `every`; a window without data and a refused model leave it running."""
    config = make_own(gate={"least_auc": 1.0}, every=1, on_drift=False)
    with serving(config) as outcomes:
        threading.Event().wait(3)  # nothing to learn from yet
        feed(config, telemetry(600, anomalies=0.0))
        until(lambda: len(outcomes) >= 2, "two retrainings", 90)

    assert not any(outcome.published for outcome in outcomes)
    assert registry.current(config) is None


def test_a_service_that_nothing_would_start_says_so(make_own):
    """Neither a clock nor drift: the two keys are named."""
    with pytest.raises(ConfigError, match=r"retrain\.every is null and retrain\.on_drift false"):
        serve(make_own(on_drift=False), "service", threading.Event(), nullcontext, print)
