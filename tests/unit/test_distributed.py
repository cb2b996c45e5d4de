"""Training by several processes: real ones on this machine's CPU, started by torchrun or with the environment it gives."""

import json
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

CONFIG = "model: {steps: 200, members: 1, hidden: 32, batch: 128, averaging: 0.98}\n"


@pytest.fixture
def arguments(tmp_path):
    """`arguments(out)`: a command that fits a file."""
    np.savez(tmp_path / "normal.npz", X=correlated(1500))
    (tmp_path / "c.yaml").write_text(CONFIG)
    return lambda out: ["fit", tmp_path / "normal.npz", "-c", tmp_path / "c.yaml", "--out", out]


def by_torchrun(*arguments):
    """Runs a command by two processes; returns its exit code and standard error."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*torchrun, "-m", "stream_detector", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stderr


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


COMMAND = """
import sys, stream_detector.cli
stream_detector.cli.main()
"""


FORKED = """
import json, os, sys, torch._dynamo
from stream_detector.gan import distributed, optimisation, training  # once for all: that is most of the work

for line in sys.stdin:
    processes, port, *sys.argv = json.loads(line)
    for rank in map(str, range(processes)):
        if not os.fork():
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
            os.dup2(2, 1)
            os.environ.update(place, RANK=rank, LOCAL_RANK=rank)
            exec(open(sys.argv[0]).read(), {})
            sys.exit()
    print(any([os.wait()[1] for _ in range(processes)]), flush=True)
"""


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """`forked(script, *arguments, processes=2)`: Python text by so many processes, in the environment torchrun gives."""
    folder = tmp_path_factory.mktemp("forked")
    path, errors = folder / "script.py", folder / "errors"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with (
        errors.open("w") as said,
        subprocess.Popen([sys.executable, "-c", FORKED], **pipes, stderr=said) as server,
    ):

        def run(script, *arguments, processes=2):
            path.write_text(script)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            print(json.dumps([processes, port, str(path), *map(str, arguments)]), file=server.stdin, flush=True)
            assert server.stdout.readline() == "False\n", errors.read_text()

        yield run
        server.stdin.close()


@pytest.fixture
def scripted(forked, tmp_path):
    """`scripted(script, *arguments, processes=2)`: as `forked`; gives what each left in its `rank-N`, in order."""

    def run(script, *arguments, processes=2):
        forked(script, *arguments, tmp_path, processes=processes)
        return [(tmp_path / f"rank-{rank}").read_text() for rank in range(processes)]

    return run


@pytest.mark.slow
def test_a_step_goes_along_the_mean_gradient(scripted):
    """DistributedDataParallel has every process step along the mean, and leaves alone what else a loss depends on."""
    assert scripted(MEAN) == ["[-6.0, -6.0] None False 2"] * 2  # -(1 + 3) / 2 - (2 + 6) / 2


@pytest.mark.slow
def test_a_process_alone_steps_without_help(scripted):
    """Without torchrun nothing is wrapped: the step is along the one gradient there is."""
    assert scripted(MEAN, processes=1) == ["[-3.0, -3.0] None False 0"]


@pytest.mark.slow
@pytest.mark.parametrize("begun", ["afresh", "resumed"])
def test_all_processes_hold_the_same_weights(scripted, begun):
    """Each draws records of its own, and gradients are averaged: after a training nobody has gone astray."""
    first, second = scripted(WEIGHTS, begun)

    assert first == second


def detects(model):
    """Area under the ROC curve for anomalies of one standard deviation."""
    normal = correlated(2000, seed=5)
    moved = displaced(normal, Spread.of(model.schema, normal), [False] * 6, 1.0, np.random.default_rng(0))
    usual, unusual = (model.score(rows).anomaly.astype(np.float64) for rows in (normal, moved))
    return auc(usual, unusual)


@pytest.mark.slow
def test_two_processes_train_as_well_as_one(tmp_path, arguments, command, forked):
    """The same command under torchrun, two processes over gloo: one model, one output, the same quality."""
    paths = [tmp_path / name for name in ("alone", "together", "again")]
    assert command(*arguments(paths[0]))[0] == 0
    code, said = by_torchrun(*arguments(paths[1]))
    assert code == 0, said
    assert said.count("wrote ") == 1
    forked(COMMAND, *arguments(paths[2]))

    alone, together, again = map(DetectorModel.load, paths)
    assert detects(together) == pytest.approx(detects(alone), abs=0.02)
    assert together.version != alone.version
    assert again.version == together.version


@pytest.mark.slow
def test_a_command_that_fails_ends_all_processes(tmp_path, arguments):
    """The leader's error is one line, and nobody waits for a training that never comes."""
    code, err = by_torchrun(*arguments(tmp_path / "model"), "--resume", tmp_path / "absent")

    assert code != 0
    assert not (tmp_path / "model").exists()
    assert "error: " in err
    assert "absent" in err
