"""The library inside somebody else's program, which has settings, threads and children of its own."""

import subprocess
import sys
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import stream_detector
from stream_detector.model import DetectorModel

CONFIG = stream_detector.ModelConfig(model={"steps": 60})
ROWS = [
    {"load": float(load), "heat": float(2 * load + noise), "kind": "x" if load > 0 else "y"}
    for load, noise in np.random.default_rng(5).normal(size=(200, 2))
]
FAR = [
    {"load": 1e38, "heat": -1e38, "kind": "z"},
    {"load": 1e-40, "heat": None, "kind": None},
    {"load": None, "heat": 0.0, "kind": "x"},
]


@contextmanager
def doubles():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def strict_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


HOSTS = {
    "default type float64": doubles,
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "numpy raises": lambda: np.errstate(all="raise"),
    "warnings are errors": strict_warnings,
}


def answers(folder):
    """What a model is and says: its version, scores, explanations, and the same of its copy from a file."""
    model = stream_detector.fit(ROWS, config=CONFIG)
    model.save(folder / "model")
    copy = DetectorModel.load(folder / "model")
    scores = [each.score(ROWS + FAR).columns() for each in (model, copy)]
    return model.version, copy.version, scores, [each.explain(ROWS[:20] + FAR) for each in (model, copy)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return answers(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("host", HOSTS)
def test_settings_of_the_program_around_do_not_matter(host, expected, tmp_path):
    """Fit, score, explain, save and load give the same to the bit, and the settings stay as they were."""
    with HOSTS[host]():
        before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), np.geterr()
        version, copied, scores, explanations = answers(tmp_path)
        after = torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), np.geterr()
    assert (version, copied) == expected[:2]
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(scores, expected[2], strict=True))
    assert explanations == expected[3]
    assert before == after


FORKS = """
import multiprocessing, sys, numpy, torch, stream_detector
rows = numpy.random.default_rng(0).normal(size=(100, 3))
config = stream_detector.ModelConfig(model={"steps": 40})
torch.set_num_threads(4)
torch.randn(900, 900) @ torch.randn(900, 900)
torch.randn(4_000_000).exp().sum()
def fit(): sys.exit(0 if len(stream_detector.fit(rows, config=config).version) == 64 else 1)
child = multiprocessing.get_context("fork").Process(target=fit)
child.start()
child.join()
sys.exit(child.exitcode)
"""


@pytest.mark.thorough
def test_a_forked_process_can_fit(expected):
    """Torch's threads are not copied by a fork; a fit that waited for them would never end."""
    ended = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "'spawn'" in ended.stdout + ended.stderr


def test_a_model_says_what_it_is_in_one_line(tmp_path):
    """In a notebook or a log: the version, the number of features and of records, and nothing else."""
    model = stream_detector.fit(ROWS, config=CONFIG)
    assert repr(model) == f"<DetectorModel {model.version[:12]}: 3 features, fitted on 200 records>"
