"""All that a training is at one step, and how another object follows or resumes it.

`training.train` touches this module in three places: it builds one `TrainingState`, starts at
`watch.begin(state)`, and calls `watch.after(step, state, losses)` when a step is done.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stream_detector.gan.networks import Gan

__all__ = ["TrainingState", "Watch"]

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The networks in training, their running average, their optimisers and the random state."""

    gan: Gan
    average: Gan
    optimisers: Sequence[torch.optim.Adam]
    rng: torch.Generator

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name, copied to the CPU."""
        named = {f"gan.{name}": tensor for name, tensor in self.gan.tensors()}
        named |= {f"average.{name}": tensor for name, tensor in self.average.tensors()}
        for name, parameter, optimiser in self._parameters():
            moments = optimiser.state.get(parameter, {})
            named |= {f"{name}.{moment}": moments[moment] for moment in MOMENTS if moment in moments}
        named["rng"] = self.rng.get_state()
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in named.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Become, in place, the state that `tensors` came from. Raises KeyError when one is missing."""
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


class Watch(Protocol):
    """What may follow a training: told of every step, free to copy the state, never to change it."""

    def begin(self, state: TrainingState) -> int:
        """The number of steps already done: 0, or more after restoring `state` from a checkpoint."""

    def after(self, step: int, state: TrainingState, losses: Mapping[str, Tensor]) -> None:
        """Called when `step` steps are done, with the losses of the last one."""
