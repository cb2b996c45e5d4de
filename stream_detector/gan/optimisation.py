"""The parts of every training: its state, its steps with a falling learning rate, and a callback.

`training.train` builds one `TrainingState`, starts at `callback.begin(state)`, and calls
`callback.after(step, state, losses)` when a step is done.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor

from stream_detector.gan import distributed
from stream_detector.gan.networks import Gan, Network

__all__ = ["Descent", "TrainingCallback", "TrainingState", "average_into", "decay", "synchronised"]

LEAST = 0.04  # of the first learning rate, at the end
WARM = 10  # steps over which an average forgets where it started
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
RANK_SEEDS = 1_000_003  # apart, so that no process draws what another does


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The networks in training, their running average, their optimisers and the random state."""

    gan: Gan
    average: Gan
    optimisers: Sequence[torch.optim.Adam]
    rng: torch.Generator

    def tensors(self) -> dict[str, Tensor]:
        """Copies everything that the next step depends on to the CPU, by name."""
        named = {f"gan.{name}": tensor for name, tensor in self.gan.tensors()}
        named |= {f"average.{name}": tensor for name, tensor in self.average.tensors()}
        for name, parameter, optimiser in self._parameters():
            moments = optimiser.state.get(parameter, {})
            named |= {f"{name}.{moment}": moments[moment] for moment in MOMENTS if moment in moments}
        named["rng"] = self.rng.get_state()
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in named.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Becomes, in place, the state that `tensors` came from. Raises KeyError when one is missing."""
        for name, tensor in self.gan.tensors():
            tensor.copy_(tensors[f"gan.{name}"])
        for name, tensor in self.average.tensors():
            tensor.copy_(tensors[f"average.{name}"])
        for name, parameter, optimiser in self._parameters():
            if f"{name}.step" in tensors:
                moments = {moment: tensors[f"{name}.{moment}"].clone() for moment in MOMENTS}
                optimiser.state[parameter] = {
                    moment: tensor if moment == "step" else tensor.to(parameter.device)
                    for moment, tensor in moments.items()
                }
        self.rng.set_state(tensors["rng"].clone())

    def _parameters(self) -> Iterator[tuple[str, Tensor, torch.optim.Adam]]:
        for index, optimiser in enumerate(self.optimisers):
            for group in optimiser.param_groups:
                for position, parameter in enumerate(group["params"]):
                    yield f"optimiser.{index}.{position}", parameter, optimiser


class TrainingCallback(Protocol):
    """Follows a training: it is told of every step, and may copy the state but not change it."""

    def begin(self, state: TrainingState) -> int:
        """Returns the number of steps already done: 0, or more after restoring `state` from a checkpoint."""

    def after(self, step: int, state: TrainingState, losses: Mapping[str, Tensor]) -> None:
        """Is called when `step` steps are done, with the losses of the last one."""


def synchronised(state: TrainingState, done: int, seed: int) -> int:
    """Gives every process the leader's state after `done` steps, and draws of its own; returns the leader's `done`."""
    if distributed.size() == 1:
        return done
    leads = distributed.rank() == 0
    done = int(distributed.broadcast(str(done).encode() if leads else None))
    if done:
        kept = distributed.broadcast(save(state.tensors()) if leads else None)
        if not leads:
            state.restore(load(kept))
    if not leads:
        state.rng.manual_seed(seed + RANK_SEEDS * distributed.rank() + done)
    return done


def decay(step: int, steps: int) -> float:
    """The share of the first learning rate at a step: a cosine from 1 to 4 %."""
    return LEAST + (1 - LEAST) * 0.5 * (1 + cos(pi * step / steps))


class Descent:
    """Takes steps of an optimiser with one group of tensors; the loss must depend on each of them.

    Processes that train together each have one, take steps at the same time, and step along their mean gradient.
    """

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser
        self._group = optimiser.param_groups[0]
        self._computed = distributed.computing(self._group["params"])

    def __call__(self, losses: Callable[[], tuple[Tensor, ...]], rate: float) -> tuple[Tensor, ...]:
        """Takes one step down the first of `losses`; returns all of them, detached."""
        self._group["lr"] = rate
        self._optimiser.zero_grad()
        found = self._computed(losses)
        # These inputs alone: the loss may depend on other networks, as on the critic, which must not learn from it.
        torch.autograd.backward(found[0], inputs=self._group["params"])
        self._optimiser.step()
        return tuple(each.detach() for each in found)


@torch.no_grad()
def average_into(average: Network, network: Network, most: float, step: int) -> None:
    """Lets `average` follow `network`, quickly at first; later a share `most` of it stays at each step."""
    keep = min(most, (step + 1) / (step + WARM))
    current = [tensor.detach() for tensor in network.tensors()]
    torch._foreach_lerp_(list(average.tensors()), current, 1 - keep)
