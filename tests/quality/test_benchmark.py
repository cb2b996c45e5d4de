"""The quality benchmark: what it promises about splits, resuming and its tables."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.command import benchmark
from benchmarks.quality.data import PROTOCOL, split
from benchmarks.quality.method import Method
from benchmarks.quality.ours import ENGINE, engine_sources
from benchmarks.quality.scaling import SCALINGS, fit_scaling
from benchmarks.quality.store import Result, Store
from benchmarks.quality.summary import critical_difference, difference, ranks, summarise

pytestmark = pytest.mark.thorough

RNG = np.random.default_rng(0)


def method(key="distance", sign=1.0, calls=None, **changes):
    """Distance from the mean of the training records; `calls` counts the fits."""

    def fit(train, seed):
        if calls is not None:
            calls[key, seed] += 1
        centre = train.mean(0)
        return lambda X: (sign * np.linalg.norm(X - centre, axis=1),)

    return dataclasses.replace(Method(key, (key,), fit, {"sign": sign}), **changes)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with two sets of 60 normal records and 6 far ones."""
    folder = tmp_path / "data"
    (folder / "adbench").mkdir(parents=True)
    for name in ("1_first", "2_second"):
        X = np.concatenate([RNG.normal(size=(60, 3)), RNG.normal(8, 1, size=(6, 3))])
        np.savez(folder / "adbench" / f"{name}.npz", X=X, y=np.repeat([0, 1], [60, 6]))
    monkeypatch.setenv("STREAM_DETECTOR_DATA", str(folder))
    return tmp_path


def run(folder, methods, *arguments):
    return benchmark("quality", "Test", methods, ["--results", str(folder / "results"), *arguments])


@given(normals=st.integers(2, 300), anomalies=st.integers(1, 50), seed=st.integers(0, 5))
def test_no_method_sees_an_anomaly_or_a_test_record(normals, anomalies, seed):
    """Training records are normal, none of them is tested on, and every anomaly is."""
    anomalous = np.random.default_rng(1).permutation(np.repeat([False, True], [normals, anomalies]))
    X = np.arange(normals + anomalies, dtype=np.float32)[:, None]
    data = split(X, anomalous, seed)
    train, test = set(data.train[:, 0].astype(int)), data.test[:, 0].astype(int)
    assert not anomalous[list(train)].any()
    assert not train & set(test)
    assert len(train) == normals // 2
    assert (anomalous[test] == data.anomalous).all()
    assert data.anomalous.sum() == anomalies


def test_a_split_is_capped_and_depends_on_the_seed_alone():
    """Large sets are cut to the protocol's sizes; a seed gives the same split every time, another another."""
    X = np.arange(60_000, dtype=np.float32)[:, None]
    anomalous = X[:, 0] >= 50_000
    data, again, other = split(X, anomalous, 0), split(X, anomalous, 0), split(X, anomalous, 1)
    assert len(data.train) == PROTOCOL["train"]
    assert (~data.anomalous).sum() == PROTOCOL["test_normal"]
    assert data.anomalous.sum() == PROTOCOL["test_anomalies"]
    assert (data.test == again.test).all()
    assert (data.test != other.test).any()


def test_what_is_done_is_not_run_again(data):
    """A second run fits nothing; one more seed fits that seed alone; other settings fit all again and replace the former
    results."""
    calls = Counter()
    assert run(data, [method(calls=calls)], "--seeds", "1") == 0
    assert run(data, [method(calls=calls)], "--seeds", "2") == 0
    assert calls == {("distance", 0): 2, ("distance", 1): 2}
    changed = method(calls=calls, settings={"sign": 1.0, "power": 2})
    assert run(data, [changed], "--seeds", "1") == 0
    assert calls["distance", 0] == 4
    lines = (data / "results" / "quality" / "distance.jsonl").read_text().splitlines()
    assert {json.loads(line)["digest"] for line in lines} == {changed.digest}


def test_rewording_code_is_not_a_change_of_method(tmp_path):
    """Comments, layout and docstrings leave a method's identity alone; a changed number does not."""
    source = tmp_path / "source.py"
    digests = []
    for text in ('def f():\n    """Text."""\n    return 1\n', "def f():  # why\n    return 1\n", "def f(): return 2\n"):
        source.write_text(text)
        digests.append(method(sources=(source,)).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_method_that_fails_is_named_and_the_others_go_on(data, capsys):
    """One peer's exception neither ends the run nor is stored; the exit code tells."""

    def fails(_train, _seed):
        raise ValueError("no such luck")

    assert run(data, [method("broken", fit=fails), method()], "--seeds", "1") == 1
    printed = capsys.readouterr().out
    assert "FAILED broken on first, seed 0: ValueError: no such luck" in printed
    assert len(Store(data / "results" / "quality").read(method())) == 2


def test_the_report_tells_the_better_method(data, capsys):
    """Tables and plot are written; the last line names the best of ours and of the peers."""
    methods = [method("ours", is_ours=True, is_gan=True), method("upside-down", sign=-1.0)]
    assert run(data, methods) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    fields = dict(field.split("=") for field in last.split())
    assert (fields["sets"], fields["seeds"]) == ("2", "3")
    assert fields["best_ours_auroc"] == "1.0000:ours"
    assert fields["best_peer_auroc"] == "0.0000:upside-down"
    assert "best_other_gan_auroc" not in fields
    report = (data / "results" / "quality.md").read_text()
    assert "| first | **1.000** | 0.000 |" in report
    assert (data / "results" / "quality.png").read_bytes().startswith(b"\x89PNG")


def test_means_over_unlike_runs_are_said_to_be_unlike(data):
    """A row of fewer seeds may look better than one of more; the report says where to compare them."""
    both = [method("ours", is_ours=True), method("other")]
    warned = lambda: "Not all rows have the same runs" in (data / "results" / "quality.md").read_text()  # noqa: E731
    assert run(data, both, "--seeds", "1") == 0
    assert not warned()
    assert run(data, both, "--methods", "ours", "--seeds", "2") == 0
    assert warned()


def test_an_unknown_name_is_an_error_that_lists_the_known(data, capsys):
    """A misspelt set ends with exit code 2 and the names there are."""
    assert run(data, [method()], "--sets", "frist") == 2
    assert "no set 'frist'; there are" in capsys.readouterr().err


def test_ranks_are_shared_by_equals_and_leave_out_the_incomplete(tmp_path):
    """Rank 1 is the highest figure, equal figures share a rank, and a method without every set has none."""
    store = Store(tmp_path)
    figures = {"a": (0.9, 0.8), "b": (0.9, 0.7), "c": (0.5, 0.9), "partial": (1.0, None)}
    methods = [method(key) for key in figures]
    for each in methods:
        pairs = zip(("x", "y"), figures[each.key], strict=True)
        store.append(
            each, [Result(each.key, each.digest, s, 0, v, v, 1.0, 1.0, "m") for s, v in pairs if v is not None]
        )
    ranked = ranks(summarise(methods, store), "auroc")
    assert dict(zip(ranked.names, ranked.means.tolist(), strict=True)) == {"a": 1.75, "b": 2.25, "c": 2.0}


def test_methods_are_compared_on_the_same_splits(tmp_path):
    """A difference is between equal sets and seeds; what only one of the two was run on is left out."""
    store = Store(tmp_path)
    figures = {"a": {("x", 0): 0.9, ("x", 1): 0.7, ("y", 0): 0.6}, "b": {("x", 0): 0.8, ("y", 0): 0.3, ("z", 0): 0.1}}
    for key, runs in figures.items():
        each = method(key)
        store.append(each, [Result(key, each.digest, *pair, v, v, 1.0, 1.0, "m") for pair, v in runs.items()])
    rows = {row.name: row for row in summarise([method(key) for key in figures], store)}
    mean, error, sets = difference(rows["a"], rows["b"], "auroc")
    assert (round(mean, 6), round(error, 6), sets) == (0.2, 0.1, 2)


def test_the_critical_difference_is_the_published_one():
    """Four methods on 14 sets: 1.25, the worked example of Demsar (2006)."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)


@pytest.mark.parametrize("name", SCALINGS)
def test_peers_get_finite_columns_from_any_records(name):
    """Missing, constant and empty columns come out finite and of the same width."""
    X = RNG.normal(size=(20, 4)).astype(np.float32)
    X[::3, 0], X[:, 1], X[:, 2] = np.nan, 7.0, np.nan
    prepared = fit_scaling(name, X)(X)
    assert prepared.shape == X.shape
    assert np.isfinite(prepared).all()


def test_a_damaged_line_of_results_is_named(tmp_path):
    """The message gives file, line and remedy."""
    Path(tmp_path / "distance.jsonl").write_text('{"row": \n')
    with pytest.raises(Exception, match=r"distance\.jsonl, line 1: not a result .* delete the line"):
        Store(tmp_path).read(method())


def test_a_change_of_what_decides_a_score_makes_results_stale():
    """Results of ours belong to all modules that a fit and its scores are computed by."""
    named = {path.relative_to(ENGINE).as_posix() for path in engine_sources()}
    assert {"fitting/fit.py", "gan/networks.py", "scoring/calibration.py", "scoring/compiled/kernel.py"} <= named
    assert not {path for path in named if path.startswith(("kafka/", "worker/", "cli/"))}
