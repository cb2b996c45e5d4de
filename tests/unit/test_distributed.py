"""Training by several processes: real ones on this machine's CPU, started by torchrun or with the environment it gives."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from small_models import correlated

from stream_detector.model import DetectorModel
from stream_detector.tracking.detection import auc
from stream_detector.tracking.synthetic import Spread, displaced

CONFIG = "model: {steps: 400, members: 1, hidden: 32, batch: 128, averaging: 0.98}\n"


def fitted(folder, processes, *options):
    """Fits a file by that many processes; returns the exit code, standard error and the model, if there is one."""
    np.savez(folder / "normal.npz", X=correlated(1500))
    (folder / "c.yaml").write_text(CONFIG)
    out = folder / f"model-{processes}.safetensors"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *torchrun, "-m", "stream_detector", "fit", folder / "normal.npz", "--out", out]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "-c", folder / "c.yaml", *options], capture_output=True, text=True, env=environment, check=False
    )
    return done.returncode, done.stderr, DetectorModel.load(out) if out.exists() else None


WEIGHTS = """
import hashlib, pathlib, sys, torch
from stream_detector.gan import distributed, training
from stream_detector.gan.settings import ModelSettings

honest = training.train

def noting(*arguments, **options):
    gan, losses = honest(*arguments, **options)
    digest = hashlib.sha256(b"".join(t.detach().numpy().tobytes() for _, t in gan.tensors())).hexdigest()
    pathlib.Path(sys.argv[2], f"rank-{distributed.rank()}").write_text(digest)

training.train = noting

class Resumed:  # as from a checkpoint that only the leader has
    def begin(self, state):
        with torch.no_grad():
            for _, tensor in (*state.gan.tensors(), *state.average.tensors()):
                tensor.mul_(0.5)
        return 10

    def after(self, step, state, losses):
        pass

views = torch.randn(1, 300, 6, generator=torch.Generator().manual_seed(0))
data = training.TrainingSet(views, torch.zeros(300, 0), torch.ones(300, 6))
with distributed.leading(training.follow) as leads:
    if leads:
        settings = ModelSettings(steps=30, members=1, hidden=16, batch=64)
        training.train(data, settings, 0, torch.device("cpu"), callback=Resumed() if sys.argv[1] == "resumed" else None)
"""


MEAN = """
import pathlib, sys, torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from stream_detector.gan import distributed
from stream_detector.gan.optimisation import Descent

wrapped = []
honest = DistributedDataParallel.forward
DistributedDataParallel.forward = lambda self, *given: wrapped.append(1) or honest(self, *given)

def steps():
    weight, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
    descend = Descent(torch.optim.SGD([weight], 1.0))
    for target in (1.0, 2.0):
        mine = target * (1 + 2 * distributed.rank())  # 1 and 3, then 2 and 6
        loss, extra = descend(lambda: ((weight * mine * other).sum(), other), 1.0)
    text = f"{weight.tolist()} {other.grad} {loss.requires_grad} {len(wrapped)}"
    pathlib.Path(sys.argv[1], f"rank-{distributed.rank()}").write_text(text)

def follow():
    steps()
    assert distributed.listen() is None

with distributed.leading(follow) as leads:
    if leads:
        steps()
"""


FORKED = """
import os, sys
from stream_detector.gan import distributed, optimisation, training  # once for all: that is most of the work

path, processes, port = sys.argv[1:4]
sys.argv[:4] = [path]
for rank in map(str, range(int(processes))):
    if not os.fork():
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": processes}
        os.environ.update(place, RANK=rank, LOCAL_RANK=rank)
        exec(open(path).read())
        sys.exit()
sys.exit(any([os.wait()[1] for _ in range(int(processes))]))
"""


def scripted(folder, script, *arguments, processes=2):
    """Runs Python text by that many processes; returns what each left in its `rank-N`, in order."""
    path = folder / "script.py"
    path.write_text(script)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", FORKED, path, str(processes), port, *arguments, folder]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return [(folder / f"rank-{rank}").read_text() for rank in range(processes)]


@pytest.mark.slow
def test_a_step_goes_along_the_mean_gradient(tmp_path):
    """DistributedDataParallel has every process step along the mean, and leaves alone what else a loss depends on."""
    assert scripted(tmp_path, MEAN) == ["[-6.0, -6.0] None False 2"] * 2  # -(1 + 3) / 2 - (2 + 6) / 2


@pytest.mark.slow
def test_a_process_alone_steps_without_help(tmp_path):
    """Without torchrun nothing is wrapped: the step is along the one gradient there is."""
    assert scripted(tmp_path, MEAN, processes=1) == ["[-3.0, -3.0] None False 0"]


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["afresh", "resumed"])
def test_all_processes_hold_the_same_weights(tmp_path, begun):
    """Each draws records of its own, and gradients are averaged: after a training nobody has gone astray."""
    first, second = scripted(tmp_path, WEIGHTS, begun)

    assert first == second


def detects(model):
    """Area under the ROC curve for anomalies of one standard deviation."""
    normal = correlated(2000, seed=5)
    moved = displaced(normal, Spread.of(model.schema, normal), [False] * 6, 1.0, np.random.default_rng(0))
    usual, unusual = (model.score(rows).anomaly.astype(np.float64) for rows in (normal, moved))
    return auc(usual, unusual)


@pytest.mark.slow
def test_two_processes_train_as_well_as_one(tmp_path):
    """The same command under torchrun, two processes over gloo: one model, one output, the same quality."""
    alone, together = fitted(tmp_path, 1), fitted(tmp_path, 2)

    assert (alone[0], together[0]) == (0, 0), together[1]
    assert together[1].count("wrote ") == 1
    assert detects(together[2]) == pytest.approx(detects(alone[2]), abs=0.02)
    assert together[2].version != alone[2].version
    assert fitted(tmp_path, 2)[2].version == together[2].version


@pytest.mark.slow
def test_a_command_that_fails_ends_all_processes(tmp_path):
    """The leader's error is one line, and nobody waits for a training that never comes."""
    code, err, model = fitted(tmp_path, 2, "--resume", tmp_path / "absent")

    assert code != 0
    assert model is None
    assert "error: " in err
    assert "absent" in err
