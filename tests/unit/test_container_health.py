"""The container's health check, against a real listener."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stream_detector.config import MetricsConfig
from stream_detector.health import Health
from stream_detector.worker.listener import listen
from stream_detector.worker.metrics import WorkerMetrics

SCRIPT = Path(__file__).parents[2] / "docker" / "health.py"


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check(path, **environment):
    """Exit status and output of the health check for a configuration file."""
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env=os.environ | {"STREAM_DETECTOR_CONFIG": str(path)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_it_follows_what_the_listener_says(tmp_path, port):
    """Healthy when ready and while a first model is waited for; not when there is another reason, or no listener."""
    path = tmp_path / "config.yaml"
    path.write_text(f"metrics:\n  port: {port}\n")
    assert check(path)[0] == 1
    health = Health()
    listen(MetricsConfig(port=port), health, WorkerMetrics(health))
    assert check(path)[0] == 1
    health.trouble("model", "no model on topic 'models' yet")
    code, said = check(path)
    assert (code, "not ready: no model on topic" in said) == (0, True)
    health.trouble("broker", "no answer from broker:9092")
    assert check(path)[0] == 1
    health.trouble("broker", None)
    health.trouble("model", None)
    health.began()
    assert check(path)[0] == 0


def test_a_loop_that_hangs_is_unhealthy(tmp_path, port):
    """Though it waits for its first model, too."""
    path = tmp_path / "config.yaml"
    path.write_text(f"metrics:\n  port: {port}\n")
    health = Health(turn_limit=-1.0)
    listen(MetricsConfig(port=port), health, WorkerMetrics(health))
    health.began()
    assert check(path)[0] == 1


def test_without_a_listener_there_is_nothing_to_ask(tmp_path, port):
    """The environment's port wins over the file's, as for the detector."""
    path = tmp_path / "config.yaml"
    assert check(path)[0] == 0
    assert check(path, STREAM_DETECTOR_METRICS__PORT=str(port))[0] == 1
