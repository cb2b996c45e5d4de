"""How many files of the engine a reader of one record's way has to open."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/trace_record.py"
MOST = 25  # outside the compiled code and the devices
APART = ("scoring/compiled/", "scoring/device/")


def traced(broker):
    """The files of the engine that one flagged record visits, in order."""
    found = subprocess.run(
        [sys.executable, SCRIPT, "--json"],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def outside(road):
    return [file for file in road if not file.startswith(APART)]


@pytest.mark.slow
def test_a_flagged_record_passes_few_files(broker):
    """Between its poll and its commit a flagged record visits few files, from the source to the transaction."""
    road = traced(broker)
    if len(outside(road)) > MOST:  # what is told once a second may fall between; no record has it on its way
        again = traced(broker)
        road = [file for file in road if file in again]

    assert road[0] == "worker/source.py"
    assert {"detector.py", "records/alerts.py", "worker/output/transaction.py"} <= set(road)
    assert any(file.startswith("scoring/compiled/") for file in road), "the compiled code is not seen"
    assert len(outside(road)) <= MOST, "\n".join(outside(road))
