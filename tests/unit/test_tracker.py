"""A training is followed without being changed, its checkpoint is chosen, and a killed one goes on to the bit."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import correlated

from stream_detector import ModelConfig, ModelSettings, fit
from stream_detector.errors import ConfigError, DataError, ModelError
from stream_detector.gan.networks import Gan
from stream_detector.gan.optimisation import TrainingState
from stream_detector.tracking.run_directory import RunDirectory
from stream_detector.tracking.tracker import Tracker

SMALL = ModelSettings(steps=150, hidden=16, members=1, views=("soft",), batch=64, latent=2)
CONFIG = ModelConfig(model=SMALL)


pytestmark = [pytest.mark.usefixtures("no_pictures"), pytest.mark.thorough]


def new_run(parent, seed=0, config=CONFIG):
    return RunDirectory.create(parent, config.model_dump(mode="json"), seed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that came to its end, and its model."""
    run = new_run(tmp_path_factory.mktemp("runs"))
    return run, fit(correlated(200), config=CONFIG, device="cpu", run=run)


def test_keeping_a_run_changes_nothing_about_the_model(finished):
    """With a run directory and without, the same records, configuration and seed give the same version."""
    assert finished[1].version == fit(correlated(200), config=CONFIG, device="cpu").version


def test_the_model_holds_the_networks_of_the_sweet_spot(finished):
    """The fitted networks are the kept checkpoint of the chosen step, bit for bit."""
    run, model = finished
    spot = run.load_json("sweet_spot")
    kept = run.load_checkpoint(spot["step"])
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.scorer.gan.tensors())
    assert model.metrics["sweet_spot_step"] == spot["step"]
    assert spot["smoothed"][spot["steps"].index(spot["step"])] >= spot["enough"]


def test_an_earlier_checkpoint_is_used_when_it_detects_better(monkeypatch):
    """When the last checkpoint is spoilt, the fit goes back to one that was not, as it was then."""
    original, then = Tracker.after, {}

    def spoil(self, step, state, losses):
        then[step] = {name: tensor.clone() for name, tensor in state.average.tensors()}
        if step > 450:
            silent = state.average.discriminator.map(torch.zeros_like)
            state = replace(state, average=replace(state.average, discriminator=silent))
        original(self, step, state, losses)

    monkeypatch.setattr(Tracker, "after", spoil)
    longer = ModelConfig(model=SMALL.model_copy(update={"steps": 600}))
    model = fit(correlated(200), config=longer, device="cpu")
    chosen = model.metrics["sweet_spot_step"]
    assert chosen in {201, 240, 330, 420}
    assert all(torch.equal(then[chosen][name], tensor) for name, tensor in model.scorer.gan.tensors())


def collapse(gan: Gan) -> Gan:
    """The same networks, but whatever the latent, the generator makes one record."""
    generator = gan.generator
    silent = tuple(torch.zeros_like(weight) for weight in generator.weights)
    return replace(gan, generator=replace(generator, weights=silent, skip=None))


def test_a_collapsed_generator_is_refused(monkeypatch):
    """A fit whose generator always makes the same record ends in a plain error that says what to change."""
    original = Tracker.after
    monkeypatch.setattr(
        Tracker,
        "after",
        lambda self, step, state, losses: original(self, step, replace(state, average=collapse(state.average)), losses),
    )
    with pytest.raises(ModelError, match=r"generator 1 of 1 has collapsed.*model\.steps"):
        fit(correlated(200), config=CONFIG, device="cpu")


CHILD = """
import os, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from small_models import correlated
from stream_detector import ModelConfig, fit
from stream_detector.tracking.run_directory import RunDirectory
def linger(step, total, message):
    if step >= 100:
        print("ready", flush=True)
        sys.stdin.read()
config = ModelConfig.model_validate_json({config!r})
fit(correlated(200), config=config, device="cpu", progress=linger, run=RunDirectory.open(Path({run!r})))
"""


def test_a_killed_training_resumes_to_the_same_bits(finished, tmp_path):
    """Killed after some checkpoints and resumed, a fit ends with the model and the tables of one never stopped."""
    run = new_run(tmp_path)
    script = CHILD.format(here=str(Path(__file__).parent), run=str(run.path), config=CONFIG.model_dump_json())
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
    done, _ = run.load_state()
    assert 0 < done < SMALL.steps
    assert run.load_json("sweet_spot") is None
    torn = {name: [*rows, {**rows[-1], "step": done + 1}] for name, rows in run.load_tables().items()}
    run.save_tables(torn)  # as if killed between writing the tables and the state
    resumed = fit(correlated(200), config=CONFIG, device="cpu", run=run)
    assert resumed.version == finished[1].version
    assert run.load_tables() == finished[0].load_tables()
    assert (run.path / "model.safetensors").read_bytes() == finished[1].to_bytes()


def test_a_finished_run_resumes_to_itself(finished):
    """Resuming what is done takes no step and gives the same model again."""
    run, model = finished
    steps = []
    again = fit(correlated(200), config=CONFIG, device="cpu", run=run, progress=lambda *step: steps.append(step))
    assert again.version == model.version
    assert not steps


def test_other_records_or_settings_cannot_be_resumed(finished):
    """A run goes on only with its own records, configuration and seed; the error says which differs."""
    run, _ = finished
    with pytest.raises(DataError, match="other records"):
        fit(correlated(200, seed=1), config=CONFIG, device="cpu", run=run)
    for other in ({"config": ModelConfig(), "seed": 0}, {"config": CONFIG, "seed": 1}):
        with pytest.raises(ConfigError, match="another configuration or seed"):
            fit(correlated(200), device="cpu", run=run, **other)


def test_state_of_a_training_survives_a_round_trip():
    """Networks, averages, optimiser moments and random state are restored exactly, into other objects."""

    def training(seed):
        rng = torch.Generator().manual_seed(seed)
        from stream_detector.gan.training import sizes_for

        gan = Gan.random(sizes_for(SMALL, 3, 0), rng).map(torch.Tensor.requires_grad_)
        optimiser = torch.optim.Adam(list(gan.generator.tensors()), 1e-2)
        return TrainingState(gan, gan.map(lambda tensor: tensor.detach() + 1), [optimiser], rng)

    def step(state):
        latent = torch.randn(1, 8, 2, generator=state.rng)
        state.optimisers[0].zero_grad()
        state.gan.generate(latent, torch.zeros(1, 8, 0)).square().sum().backward()
        state.optimisers[0].step()

    first, second = training(1), training(2)
    for _ in range(3):
        step(first)
    second.restore(first.tensors())
    step(first)
    step(second)
    left, right = first.tensors(), second.tensors()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not np.array_equal(left["rng"], training(1).tensors()["rng"])


def test_damaged_state_is_named(finished, tmp_path):
    """A run whose state was damaged says so, naming the file; it is never half restored."""
    run = new_run(tmp_path)
    (run.path / "state.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    with pytest.raises(ConfigError, match=r"state\.safetensors: is damaged"):
        fit(correlated(200), config=CONFIG, device="cpu", run=run)
    other = ModelConfig(model=SMALL.model_copy(update={"hidden": 32}))
    alien = new_run(tmp_path, config=other)
    alien.save_tables(finished[0].load_tables())
    step, tensors = finished[0].load_state()
    alien.save_state(step, tensors)
    with pytest.raises(ConfigError, match="of other networks"):
        fit(correlated(200), config=other, device="cpu", run=alien)
