"""A run directory holds all of a training, and its report is one page that needs nothing else."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from pyarrow import parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from stream_detector.cli.app import app
from stream_detector.errors import ConfigError
from stream_detector.features import encode
from stream_detector.fitting.profiling import described, learn
from stream_detector.tracking.html_report import report
from stream_detector.tracking.plots import TITLES
from stream_detector.tracking.run_directory import RunDirectory

pytestmark = pytest.mark.thorough

QUICK = "model: {steps: 100, hidden: 16, members: 1, views: [soft], batch: 32, latent: 2}\n"
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run directory of a fit from the command line, on a table with a hostile column name."""
    folder = tmp_path_factory.mktemp("fit")
    rng = np.random.default_rng(0)
    lines = [
        f'"{HOSTILE.replace(chr(34), chr(34) * 2)}",b,c',
        *(",".join(map(str, row)) for row in rng.normal(size=(150, 3))),
    ]
    (folder / "normal.csv").write_text("\n".join(lines))
    (folder / "config.yaml").write_text(QUICK)
    arguments = [
        "fit",
        str(folder / "normal.csv"),
        "-c",
        str(folder / "config.yaml"),
        "--run-dir",
        str(folder / "runs"),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (path,) = (folder / "runs").iterdir()
    return RunDirectory.open(path)


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    """The page that `report RUN -o FILE` writes."""
    target = tmp_path_factory.mktemp("page") / "page.html"
    assert CliRunner().invoke(app, ["report", str(run.path), "-o", str(target)]).exit_code == 0
    return target.read_text()


class Page(HTMLParser):
    """Tags, sources and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in {"src", "href", "data", "action"}]

    def handle_data(self, data):
        self.words += data


def test_a_run_holds_everything(run):
    """Configuration, seed, checkpoints, state, results, events, plots, sweet spot and model are there, none a pickle."""
    assert re.fullmatch(r"\d{8}T\d{6}Z-seed0-[0-9a-f]{8}", run.path.name)
    described = yaml.safe_load((run.path / "run.yaml").read_text())
    assert described["configuration"]["model"]["steps"] == 100
    assert {"seed", "environment", "data"} <= described.keys()
    names = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert {"run.yaml", "state.safetensors", "sweet_spot.json", "model.safetensors"} <= names
    assert {f"plots/{name}.png" for name in TITLES} <= names
    steps = json.loads((run.path / "sweet_spot.json").read_bytes())["steps"]
    assert {f"checkpoints/step-{step:08d}.safetensors" for step in steps} <= names
    assert not [name for name in names if name.endswith((".pt", ".pth", ".pkl", ".partial"))]


def test_fit_command_resumes_its_own_run_only(run, tmp_path, no_pictures):
    """`fit --resume RUN` ends with the run's model; with another configuration it is refused in one line."""
    table, config = (str(run.path.parents[1] / name) for name in ("normal.csv", "config.yaml"))
    out = tmp_path / "model.safetensors"
    arguments = ["fit", table, "--resume", str(run.path), "--out", str(out)]
    assert CliRunner().invoke(app, [*arguments, "-c", config]).exit_code == 0
    assert out.read_bytes() == (run.path / "model.safetensors").read_bytes()
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, ConfigError)
    assert "another configuration or seed" in str(refused.exception)


def test_results_are_parquet_by_step(run):
    """Every table has a step in each row; detection has every opinion and size at every measured step."""
    tables = {path.stem: parquet.read_table(path) for path in (run.path / "results").iterdir()}
    assert tables.keys() == {"detection", "losses", "scores", "features", "joint", "quantiles"}
    assert all("step" in table.column_names for table in tables.values())
    steps = set(tables["joint"]["step"].to_pylist())
    rows = tables["detection"].to_pylist()
    assert {row["opinion"] for row in rows} == {"verdict", "inversion", "discriminator", "combined"}
    assert len(rows) == len(steps) * 4 * 6
    assert set(tables["features"]["feature"].to_pylist()) == {HOSTILE, "b", "c"}


def test_tensorboard_reads_the_events(run):
    """TensorBoard's own reader finds the losses, the areas and the generator's figures at every measured step."""
    events = EventAccumulator(str(run.events)).Reload()
    steps = json.loads((run.path / "sweet_spot.json").read_bytes())["steps"]
    for tag in ("loss/judge_loss", "auc_combined/size_1", "generator/coverage", "generator/mean_ks"):
        assert [event.step for event in events.Scalars(tag)] == steps


def test_the_report_needs_nothing_else_and_escapes_everything(page):
    """The page fetches nothing and runs nothing, whatever the features are called."""
    found = Page(page)
    assert "script" not in found.tags
    assert HOSTILE in found.words
    assert len(found.sources) == len(TITLES)
    assert all(source.startswith("data:image/png;base64,") for source in found.sources)
    assert not re.search(r"https?://|url\(|@import", page)
    for word in ("sweet spot", "model.steps", "coverage", "Kolmogorov", "seed0"):
        assert word in found.words


def test_an_interrupted_training_has_a_report(run, tmp_path, no_pictures):
    """Without a sweet spot the page says how far the training came."""
    copy = RunDirectory(tmp_path)
    (tmp_path / "run.yaml").write_bytes((run.path / "run.yaml").read_bytes())
    first = run.load_json("sweet_spot")["steps"][0]
    copy.save_tables(run.load_tables(first))
    assert f"Not finished: measured up to step {first}." in Page(report(copy)).words


def test_the_report_tells_what_is_constant_and_what_is_left_out(run, tmp_path, no_pictures):
    """A constant feature's row says that it is kept, and a column that is none has its reason."""
    copy = RunDirectory(tmp_path)
    (tmp_path / "run.yaml").write_bytes((run.path / "run.yaml").read_bytes())
    copy.save_tables(run.load_tables(run.load_json("sweet_spot")["steps"][0]))
    learnt = learn([{"cpu": float(n % 7), "errors": 0.0, "id": f"r{n}"} for n in range(50)])
    copy.save_json("features", described(learnt, encode(learnt.schema, learnt.rows).matrix))
    words = Page(report(copy)).words
    assert "constant, kept as a feature" in words
    assert "near-unique text" in words


def test_report_command_writes_the_page(page):
    """`report RUN -o FILE` writes the page there."""
    assert page.startswith("<!doctype html>")


def test_what_is_no_run_is_refused(tmp_path):
    """A folder that holds no run, or one with nothing measured, is an error that says so."""
    with pytest.raises(ConfigError, match=r"holds no run\.yaml"):
        RunDirectory.open(tmp_path)
    with pytest.raises(ConfigError, match="nothing has been measured"):
        report(RunDirectory.create(tmp_path, {}, 0))


def test_two_runs_of_one_second_get_folders_of_their_own(tmp_path):
    """Runs with the same configuration and seed never share a folder."""
    assert len({RunDirectory.create(tmp_path, {"a": 1}, 0).path for _ in range(4)}) == 4


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    """Without the extra, asking for a run says what to install."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"tensorboard.*stream-detector\[training\]"):
        RunDirectory.create(tmp_path, {}, 0)
