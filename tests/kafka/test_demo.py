"""The demo keeps its promises: alerts, honest figures, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from demo.reckoning import Reckoning
from demo.run_demo import CONFIG
from producers.simulator import Simulation, simulate
from stream_detector.config import load_config
from stream_detector.records import Alert

ALERT = Alert(
    "telemetry",
    0,
    7,
    None,
    None,
    None,
    None,
    "2026-01-01T00:00:00Z",
    "f" * 64,
    3.2,
    2.7,
    "rolling",
    3.0,
    3.1,
    "warning",
    (),
)
LAST_LINE = re.compile(r"records=(\d+) faults=(\d+) detected=(\d+) false_alarms=(\d+) alerts=(\d+)")


def start(directory: Path, **options) -> subprocess.Popen:
    environment = os.environ | {"TMPDIR": str(directory), "PYTHONUNBUFFERED": "1"}
    environment.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    command = [str(Path(sys.executable).with_name("stream-detector")), "demo"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a background job ignores it
        **options,
    )


def left_behind(directory: Path) -> list[str]:
    """Files below `directory`, and command lines of processes that name it."""
    found = [str(path) for path in directory.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in command:
            found.append(command)
    return found


@pytest.mark.slow
def test_the_demo_detects_its_faults_and_leaves_nothing_behind(tmp_path):
    """Exit code 0, alerts with expected values, ≥ 90 % of the faults, false alarms ≤ twice the target, a clean end."""
    demo = start(tmp_path)
    output, _ = demo.communicate(timeout=280)
    lines = output.strip().splitlines()

    assert demo.returncode == 0, output
    assert re.search(r"expected [\d.,]+", output)
    figures = LAST_LINE.fullmatch(lines[-1])
    assert figures, lines[-1]
    records, faults, detected, false_alarms, alerts = map(int, figures.groups())
    assert faults >= 10
    assert detected >= 0.9 * faults
    assert false_alarms <= 2 * load_config(CONFIG).threshold.target_alert_rate * records
    assert alerts >= detected + false_alarms
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path, number):
    """Ctrl-C and SIGTERM in the middle of the fit end it without a traceback, with broker and directory gone."""
    demo = start(tmp_path)
    for line in demo.stdout:
        if line.startswith("3/6"):
            break
    assert left_behind(tmp_path), "the broker should be running"
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=120)

    assert demo.returncode != 0
    assert "Traceback" not in output
    assert not left_behind(tmp_path)


def test_the_reckoning_counts_faults_once_and_false_alarms_apart():
    """Several alerts on one fault detect it once; an alert on a record of no fault is a false alarm."""
    samples = list(simulate(Simulation(seed=1, period=100, faults=10, records=2_000)))
    labels = {s.id: s.fault for s in samples if s.fault}
    fault = next(iter(labels.values()))
    own = [s.id for s in samples if s.fault == fault]
    normal = next(s.id for s in samples if not s.fault)
    reckoning = Reckoning(labels)
    said = [reckoning.take(replace(ALERT, event_id=event_id)) for event_id in (*own[:2], normal, None)]
    summary = reckoning.summary(2_000)

    assert str(summary) == f"records=2000 faults={len(set(labels.values()))} detected=1 false_alarms=2 alerts=4"
    assert fault.kind.value in said[0]
    assert said[1] is None
    assert "false alarm" in said[2]
    assert Counter(reckoning.shown) == {fault.kind.value: 1, "false alarm": 1}
