"""The speed benchmark: what it promises about resuming, its last lines, and machines without a GPU."""

import sys
from types import SimpleNamespace

import pytest
import torch

import stream_detector
from benchmarks.speed import __main__ as command
from benchmarks.speed import data, gpu
from benchmarks.speed.part import Measured, last_line, markdown, stored
from stream_detector.errors import ConfigError, DataError

pytestmark = pytest.mark.thorough

MEASURED = Measured(
    "Some part", "How.", ("", "per s"), (("ours", "10"), ("theirs", "5")), {"ratio": 2.0, "default": "1.2%"}
)


@pytest.fixture
def parts(monkeypatch):
    """Two parts that count their runs, of which the first fails."""
    runs = []

    def good(quick):
        runs.append(quick)
        return MEASURED

    def bad(quick):
        raise DataError("no such luck")

    for key, run in (("good", good), ("bad", bad)):
        monkeypatch.setitem(sys.modules, f"benchmarks.speed.{key}", SimpleNamespace(run=run))
    monkeypatch.setattr(command, "PARTS", {"x": "bad", "y": "good"})
    return runs


def test_a_part_is_kept_with_its_machine_and_not_run_again(parts, tmp_path, capsys):
    """What has a result is reported without a run; `--again` runs it anew; a part that fails stops no other."""
    folder = tmp_path / "speed"
    assert command.main(["--parts", "x,y", "--quick", "--results", str(folder)]) == DataError.exit_code
    assert command.main(["--parts", "y", "--results", str(folder)]) == 0
    assert parts == [True]
    assert command.main(["--parts", "y", "--again", "--results", str(folder)]) == 0
    assert parts == [True, False]
    said = capsys.readouterr()
    assert "no such luck" in said.err
    assert said.out.splitlines()[-1] == "part=y ratio=2 default=1.2%"
    assert "Machine: " in (tmp_path / "speed.md").read_text()


def test_a_result_survives_its_file(tmp_path):
    """What is read back is what was kept, and its section holds table and last line."""
    stored(tmp_path, "y", MEASURED)
    assert stored(tmp_path, "y") == MEASURED
    section = markdown("y", MEASURED)
    assert "| ours | 10 |" in section
    assert last_line("y", MEASURED) in section


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_part_says_so():
    """The GPU's part ends with a clear message where there is none."""
    with pytest.raises(ConfigError, match="no GPU"):
        gpu.run(quick=True)


def test_the_measurements_for_a_gpu_work_on_any_device(monkeypatch):
    """Rates, launches and copies are measured on the CPU, too, so that only the numbers need a GPU."""
    monkeypatch.setattr(gpu, "SECONDS", 0.05)
    config = stream_detector.ModelConfig(model={"steps": 20, "members": 1})
    model = stream_detector.fit(data.matrix(16, 400), config=config, device="cpu")
    seen = gpu._seen(model, 64)
    assert gpu._rate(model.score, 64) > 0
    assert seen.shares.keys() == {"computing", "copying", "copying beside computing"}
    assert gpu._launched_one_by_one(model)(data.matrix(16, 10)).shape == (3, 10)
    assert gpu._apart(model, 100) == 0


def test_time_covered_twice_counts_once():
    """Copies beside kernels are told from copies between them."""
    spans = [(0, 10), (2, 4), (8, 12), (20, 21)]
    events = [SimpleNamespace(time_range=SimpleNamespace(start=start, end=end)) for start, end in spans]
    assert gpu._covered(events) == 13
