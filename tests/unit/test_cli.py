"""The command line as a user meets it: help, errors, exit codes, fit and score."""

import csv
import io
import json
import sys

import numpy as np
import pytest

from stream_detector.cli.app import app
from stream_detector.model import DetectorModel

QUICK = "model: {steps: 60}\n"


@pytest.fixture
def normal(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 1))
    path = tmp_path / "normal.npz"
    np.savez(path, X=np.hstack([base, 2 * base, rng.normal(size=(300, 2))]))
    return path


def names():
    return [c.callback.__name__.strip("_") for c in app.registered_commands]


@pytest.mark.parametrize("name", [*names(), "models", "topics"])
def test_every_command_explains_itself(command, name):
    """`--help` exits 0 and says what the command does."""
    code, out, _ = command(name, "--help")
    assert code == 0
    assert f"stream-detector {name}" in out
    assert "--help" in out


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["fti"], 2, "Did you mean 'fit'?"),
        (["fit"], 2, "either a FILE of normal records or --from-topic"),
        (["fit", "x.npz"], 2, "--out MODEL, --publish"),
        (["fit", "absent.npz", "--out", "m"], 3, "absent.npz"),
        (["fit", "absent.txt", "--out", "m"], 3, "absent.txt: cannot be read"),
        (["score", "absent.safetensors", "x.csv", "--out", "y.csv"], 4, "absent.safetensors"),
        (["run", "-c", "absent.yaml"], 2, "absent.yaml: cannot be read"),
    ],
)
def test_mistakes_get_one_plain_line_and_their_own_exit_code(command, args, code, says):
    """What is wrong is named with a remedy, without a traceback."""
    got, out, err = command(*args)
    assert got == code
    assert says in " ".join((out + err).split())
    assert "Traceback" not in err


def test_an_unreachable_broker_is_named(command, tmp_path):
    """A command that needs Kafka says which address does not answer, and exits with 5."""
    path = tmp_path / "c.yaml"
    path.write_text("kafka: {bootstrap_servers: 'localhost:1'}")
    code, _, err = command("topics", "create", "-c", path)
    assert code == 5
    assert "localhost:1" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_fit_then_score_a_file(command, tmp_path, normal, suffix):
    """A model fitted from a file scores a file; the columns equal the Python API's scores."""
    config, model, out = tmp_path / "c.yaml", tmp_path / "m.safetensors", tmp_path / f"scores{suffix}"
    config.write_text(QUICK)
    assert command("fit", normal, "--out", model, "-c", config)[0] == 0
    assert command("score", model, normal, "--out", out)[0] == 0
    expected = DetectorModel.load(model).score(np.load(normal)["X"]).anomaly
    assert np.allclose(column(out, "anomaly"), expected, rtol=1e-6)
    assert len(column(out, "inversion")) == len(column(out, "discriminator")) == len(expected)


def test_scores_go_through_a_pipe(command, tmp_path, monkeypatch):
    """JSON lines in, JSON lines out: id, scores, verdict and leading features of each; an unusable row is named."""
    config, model = tmp_path / "c.yaml", tmp_path / "m.safetensors"
    config.write_text(QUICK)
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"r{n}", "features": {"a": a, "b": 2 * a + rng.normal()}} for n, a in enumerate(rng.normal(size=300))
    ]
    rows[7]["features"]["a"] = "broken"
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = command("fit", tmp_path / "t.jsonl", "--out", model, "-c", config)
    assert (code, "1 odd" in out) == (0, True)
    lines = [*rows[:9], {"id": "far", "features": {"a": 1e4, "b": -1e4}}]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(map(json.dumps, lines)).encode())))
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stdout)
    code, _, err = command("score", model, "-", "-c", config)
    found = [json.loads(line) for line in stdout.buffer.getvalue().splitlines()]
    assert code == 0
    assert [each["id"] for each in found] == [each["id"] for each in lines]
    assert (found[-1]["flagged"], found[-1]["features"][0]["feature"] in {"a", "b"}) == (True, True)
    assert (found[7]["anomaly"], "'a' is str" in found[7]["fault"]) == (None, True)
    assert "line 8" in err


def column(path, name):
    if path.suffix == ".npz":
        return np.load(path)[name]
    if path.suffix == ".csv":
        with path.open() as file:
            return np.array([float(row[name]) for row in csv.DictReader(file)])
    from pyarrow import parquet

    return parquet.read_table(path)[name].to_numpy()


def test_the_same_seed_gives_the_same_file(command, tmp_path, normal):
    """Fitting twice with one seed writes equal bytes; another seed writes others."""
    config = tmp_path / "c.yaml"
    config.write_text(QUICK)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert command("fit", normal, "--out", tmp_path / name, "-c", config, "--seed", seed)[0] == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_fit_shows_progress(command, tmp_path, normal):
    """Away from a terminal, progress is plain lines."""
    config = tmp_path / "c.yaml"
    config.write_text(QUICK)
    _, _, err = command("fit", normal, "--out", tmp_path / "m", "-c", config)
    assert "100 %" in err
