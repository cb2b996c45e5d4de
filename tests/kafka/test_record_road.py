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


@pytest.mark.slow
def test_a_flagged_record_passes_few_files(broker):
    """Between its poll and its commit a flagged record visits few files, from the source to the transaction."""
    traced = subprocess.run(
        [sys.executable, SCRIPT, "--json"],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers},
        capture_output=True,
        text=True,
        check=False,
    )
    assert traced.returncode == 0, traced.stdout + traced.stderr
    road = json.loads(traced.stdout.splitlines()[-1])

    assert road[0] == "worker/source.py"
    assert {"detector.py", "records/alerts.py", "worker/output/transaction.py"} <= set(road)
    assert any(file.startswith("scoring/compiled/") for file in road), "the compiled code is not seen"
    outside = [file for file in road if not file.startswith(APART)]
    assert len(outside) <= MOST, "\n".join(outside)
