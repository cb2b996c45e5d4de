"""A broker lost in the middle of a retraining: an error in one line, no half-published model, and the next start goes on."""

import json
import threading
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib import import_module

import pytest
from structlog.testing import capture_logs
from workload import everything, feed, fresh_config, small_model, telemetry, until

from stream_detector.errors import BrokerUnavailableError
from stream_detector.kafka import reads
from stream_detector.kafka.clients import send
from stream_detector.records.control_events import ControlEvent
from stream_detector.registry import store
from stream_detector.retraining import service
from stream_detector.retraining.job import Trigger, retrain

GATE = {"least_auc": 0.5, "least_coverage": 0.0, "threshold_move": 9.0, "threshold_move_since_approval": 9.0}


@pytest.fixture
def config(private_broker, tmp_path, monkeypatch):
    """Quick fits on a broker to be lost, short patience with it, telemetry to learn from, and a model in force."""
    monkeypatch.setattr(store, "TIMEOUT", 5.0)
    monkeypatch.setattr(reads, "TIMEOUT", 3.0)
    monkeypatch.setattr(reads, "STALL", 3.0)
    settings = {"records": 2_000, "least_records": 300, "runs": tmp_path / "runs", "gate": GATE}
    made = fresh_config(
        private_broker,
        model={"steps": 100, "members": 1, "hidden": 16},
        threshold={"target_alert_rate": 0.02, "window": 500, "warmup": 100},
        retrain=settings,
    )
    feed(made, telemetry(900, anomalies=0.0))
    store.publish(made, small_model().to_bytes(), "test", "first")
    until(lambda: store.current(made), "the pointer can be read")  # a commit is seen a little after it is made
    return made


def test_a_broker_lost_half_way_leaves_the_model_in_force(private_broker, config):
    """What was trained waits in the run directory; once the broker is back it is judged and published."""
    served = store.current(config)

    with (
        killing(private_broker, "loss")() as bar,
        pytest.raises(BrokerUnavailableError, match=config.kafka.bootstrap_servers),
    ):
        retrain(config, Trigger("broker lost"), "test", bar)
    private_broker.restart()
    assert store.current(config) == served
    outcome = retrain(config, Trigger("next"), "test", lambda *_: None)

    assert outcome.published
    assert len(list(config.retrain.runs.iterdir())) == 1
    assert store.current(config).why == "broker lost"


def killing(broker, message):
    """A progress bar that kills the broker at the first report that says so."""
    killed = []

    def report(_step, _total, said):
        if message in said and not killed:
            killed.append(said)
            broker.kill()

    return lambda: nullcontext(report)


def test_a_broker_lost_while_the_window_is_read_is_one_line(private_broker, config, command, tmp_path, monkeypatch):
    """Exit code 5 and what was read; nothing was trained, nothing published, and the next command goes on."""
    served = store.current(config)
    monkeypatch.setattr(
        import_module("stream_detector.cli.retrain_command"),
        "progress_bar",
        killing(private_broker, "reading telemetry"),
    )
    path = tmp_path / "c.json"
    path.write_text(json.dumps(config.model_dump(mode="json", exclude={"kafka": {"sasl_password"}})))
    code, _, err = command("retrain", "--once", "-c", path)

    assert code == 5
    assert err.splitlines()[-1].startswith(f"error: topic {config.topics.telemetry[0]!r}, partition ")
    assert "Traceback" not in err
    (run,) = config.retrain.runs.iterdir()
    assert not list(run.glob("checkpoints/*"))
    private_broker.restart()
    assert store.current(config) == served
    monkeypatch.undo()
    assert command("retrain", "--once", "-c", path)[0] == 0
    assert list(config.retrain.runs.iterdir()) == [run]


@contextmanager
def serving(config, bar):
    """The service in a thread; yields the outcomes it has shown so far."""
    stop, outcomes = threading.Event(), []
    arguments = (config, "service", stop, bar, outcomes.append)
    thread = threading.Thread(target=service.serve, args=arguments, daemon=True)
    thread.start()
    yield outcomes
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_a_service_goes_on_when_the_broker_is_back(private_broker, config, monkeypatch):
    """A retraining that lost its broker does not wait for another drift or the end of the cool-down."""
    monkeypatch.setattr(service, "PAUSE", 1.0)
    served, topic = store.current(config).version, config.topics.telemetry[0]
    now = datetime.now(UTC).isoformat()
    event = ControlEvent("drift", "e1", topic, 0, 0, "adwin", "score", served, now)
    send(config.kafka, config.topics.control, b"", event.to_json())
    with capture_logs() as logs, serving(config, killing(private_broker, "loss")) as outcomes:
        until(lambda: any(entry["event"] == "failed, trying again" for entry in logs), "the broker is missed", 120)
        private_broker.restart()
        until(lambda: outcomes, "the retraining has gone on", 120)

    assert outcomes[0].published
    assert "adwin on score" in store.current(config).why
    assert len(list(config.retrain.runs.iterdir())) == 1
    assert sum(message.key() == b"current" for message in everything(config, config.topics.models)) == 2
