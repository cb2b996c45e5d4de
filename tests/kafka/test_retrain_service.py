"""Retraining as a service: by the clock, on drift, and still there when a retraining went wrong."""

import json
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

import pytest
from formats import batch
from structlog.testing import capture_logs
from workload import MODEL_CONFIG, command_drawing, everything, feed, small_model, telemetry, until

from stream_detector.errors import ConfigError
from stream_detector.records.control_events import ControlEvent
from stream_detector.registry import store
from stream_detector.retraining import service
from stream_detector.retraining.service import serve
from stream_detector.retraining.triggers import Triggers


@pytest.fixture
def make_own(make_config, tmp_path, no_pictures):
    """A configuration with quick fits, a lenient gate and runs of its own."""

    def make(gate=None, model=None, record=None, **retrain):
        lenient = {"least_auc": 0.5, "least_coverage": 0.0, "threshold_move": 9.0, "threshold_move_since_approval": 9.0}
        settings = {"records": 2_000, "least_records": 300, "runs": tmp_path / "runs", "gate": lenient | (gate or {})}
        threshold = {"window": 500, "warmup": 100, "target_alert_rate": 0.02}
        model = MODEL_CONFIG["model"] | (model or {})
        return make_config(model=model, threshold=threshold, retrain=settings | retrain, record=record or {})

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
    served = store.publish(config, small_model().to_bytes(), "tester", "first").version
    feed(config, telemetry(300, anomalies=0.0))
    other = "0" * 64
    with serving(config) as outcomes:
        feed(config, telemetry(200, seed=1, anomalies=0.0))  # too few yet
        events = [b"junk", drift(config, 1, 10, other), drift(config, 1, 110, served), drift(config, 0, 5, served)]
        produce(config, config.topics.control, events)
        feed(config, telemetry(600, seed=2, anomalies=0.0))
        until(lambda: outcomes, "a retraining on drift", 90)

    assert outcomes[0].published, outcomes[0].gate
    pointer = store.current(config)
    assert pointer.version == outcomes[0].model.version
    assert "adwin on score" in pointer.why
    ranges = outcomes[0].model.lineage["offsets"]
    assert ranges[f"{config.topics.telemetry[0]}-1"][0] in range(100, 111)
    assert min(first for first, _ in ranges.values()) >= 90
    assert len(outcomes) == 1


def test_drift_that_was_not_answered_is_taken_up_again(make_own, produce):
    """After the cool-down, with what has come since, until another model serves."""
    config = make_own(gate={"least_auc": 1.0}, cooldown=3)
    served = store.publish(config, small_model().to_bytes(), "tester", "first").version
    with serving(config) as outcomes:
        feed(config, telemetry(600, seed=1, anomalies=0.0))
        produce(config, config.topics.control, [drift(config, 0, 0, served)])
        until(lambda: outcomes, "a retraining on drift", 90)
        feed(config, telemetry(300, seed=2, anomalies=0.0))
        until(lambda: len(outcomes) == 2, "another one", 90)
        store.publish(config, small_model(1).to_bytes(), "tester", "by hand")

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
    assert store.current(config) is None


def test_a_service_that_nothing_would_start_says_so(make_own):
    """Neither a clock nor drift: the two keys are named."""
    with pytest.raises(ConfigError, match=r"retrain\.every is null and retrain\.on_drift false"):
        serve(make_own(on_drift=False), "service", threading.Event(), nullcontext, print)


def noticed(triggers):
    """Asks until the drift event is read; returns what was due then, and at the looks after it."""
    with capture_logs() as logs:
        due = []
        until(lambda: due.append(triggers.due()) or any(entry["event"] == "drift" for entry in logs), "the event")
    return [*due, triggers.due(), triggers.due()]


def test_a_service_started_again_keeps_its_cool_down(make_own, produce):
    """The last report tells when a retraining was: drift from before is not acted on at once, but when it is over."""
    config = make_own(gate={"least_auc": 1.0})
    served = store.publish(config, small_model().to_bytes(), "tester", "first").version
    feed(config, telemetry(600, seed=1, anomalies=0.0))
    produce(config, config.topics.control, [drift(config, 0, 0, served)])
    with serving(config) as outcomes:
        until(lambda: outcomes, "a retraining on drift", 90)

    with Triggers(config) as again:
        assert not any(noticed(again))
    over = config.model_copy(
        update={"retrain": config.retrain.model_copy(update={"cooldown": 0 * config.retrain.cooldown})}
    )
    with Triggers(over) as later:
        assert any(noticed(later))


def test_drift_is_answered_when_there_are_records_enough_in_few_messages(make_own, produce):
    """Of batches of many records it is the records that are waited for."""
    config = make_own(record={"format": "arrow"})
    served = store.publish(config, small_model().to_bytes(), "tester", "first").version
    rows = [json.loads(value) for value in telemetry(600, anomalies=0.0)]
    feed(config, [batch(rows[:200])])
    produce(config, config.topics.control, [drift(config, 0, 0, served)])
    with Triggers(config) as triggers:
        assert not any(noticed(triggers))
        feed(config, [batch(rows[200:400]), batch(rows[400:])])
        assert triggers.due()


@pytest.mark.parametrize(
    "fault", [RuntimeError("CUDA out of memory.\nTried to allocate"), MemoryError("no"), OSError(28)]
)
def test_a_machine_without_room_costs_a_retraining_not_the_service(make_own, monkeypatch, fault):
    """A device out of memory and a full disk are one line each, and the next occasion finds the service there."""
    config = make_own(every=1, on_drift=False)
    faults, honest = [fault], service.retrain

    def fails_once(*arguments):
        if faults:
            raise faults.pop()
        return honest(*arguments)

    monkeypatch.setattr(service, "retrain", fails_once)
    feed(config, telemetry(600, anomalies=0.0))
    with capture_logs() as logs, serving(config) as outcomes:
        until(lambda: outcomes, "a retraining", 90)

    assert outcomes[0].published
    (line,) = (entry for entry in logs if entry["event"] == "no new model" and entry["kind"] == type(fault).__name__)
    assert "\n" not in line["why"]


@contextmanager
def process(config, folder, **options):
    """The service as a process of its own; its log can be read line by line."""
    path = folder / "c.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json", exclude={"kafka": {"sasl_password"}})))
    command = [sys.executable, "-c", command_drawing(0), "retrain", "-c", path]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options)
    with running:
        try:
            yield running
        finally:
            running.kill()


def read_until(running, text):
    """The lines of its log up to one with `text`."""
    lines = []
    for line in running.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))


def moves(config):
    """How often the pointer was moved."""
    return sum(message.key() == b"current" for message in everything(config, config.topics.models))


def test_a_service_stopped_while_it_trains_goes_on_at_its_next_start(make_own, tmp_path):
    """SIGTERM in the middle is an orderly end; the next start goes on from the checkpoint, and publishes once."""
    config = make_own(every=3600, model={"steps": 400})
    feed(config, telemetry(900, anomalies=0.0))
    with process(config, tmp_path) as first:
        read_until(first, " 60 % judge loss")
        first.send_signal(signal.SIGTERM)
        rest = first.stderr.read()
        assert first.wait(60) == 0, rest
    assert "stopped in the middle of a retraining" in rest
    assert moves(config) == 0

    with process(config, tmp_path) as second:
        lines = read_until(second, "published as current")
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0
    assert any("interrupted before" in line for line in lines)
    assert min(int(line.split()[0]) for line in lines if " loss " in line) >= 50
    assert len(list(config.retrain.runs.iterdir())) == 1
    assert moves(config) == 1
    assert len(store.versions(config)) == 1


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(make_own, tmp_path):
    """A checkpoint that cannot be written ends the retraining, not the service; later it goes on in the same run."""
    config = make_own(every=2, on_drift=False, model={"steps": 400, "hidden": 64, "discriminators": 2})
    feed(config, telemetry(900, anomalies=0.0))
    full = (150_000, resource.RLIM_INFINITY)  # bytes of a file: the state takes more, what comes before it less

    with process(config, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, full)) as running:
        lines = read_until(running, "no new model")
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        later = read_until(running, "published as current")
    assert "Traceback" not in "".join((*lines, *later))
    assert "state.safetensors: cannot be written" in lines[-1]
    assert len(list(config.retrain.runs.iterdir())) == 1
