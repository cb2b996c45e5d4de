"""The three networks, all members of the ensemble in one batched product.

A layer is a weight [member, in, out] and a bias [member, 1, out]; a batch is [member, batch, width].
Outputs are made in whole lanes of 16 columns, of which those beyond the network's own are cut off:
the last bits of a narrower product depend on where in a batch a record is.
Hidden layers are leaky rectifiers: their slopes are exact, so the search needs no automatic
differentiation, and they use no function whose last bits depend on where in a batch a record is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

__all__ = ["ARCHITECTURES", "LANE", "LEVELS", "Gan", "Network", "Sizes", "layer_shapes"]

LEAK = 0.1
LANE = 16
LEVELS = 6  # noise levels the discriminator tells apart, beside real from fake

ARCHITECTURES: Mapping[str, tuple[float, ...]] = {
    "mlp": (1.0, 1.0),
    "shallow": (2.0,),
    "deep": (1.0, 1.0, 1.0),
    "funnel": (2.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of a GAN: judged columns, context columns, latent, hidden layers, members."""

    columns: int
    context: int
    latent: int
    hidden: tuple[int, ...]
    members: int

    @property
    def encoder(self) -> tuple[int, ...]:
        """Layer widths from record to latent."""
        return (self.columns + self.context, *self.hidden, self.latent)

    @property
    def generator(self) -> tuple[int, ...]:
        """Layer widths from latent to record."""
        return (self.latent + self.context, *reversed(self.hidden), self.columns)

    @property
    def discriminator(self) -> tuple[int, ...]:
        """Layer widths from record to one real-or-fake logit and one logit a noise level."""
        return (self.columns + self.context, *self.hidden, 1 + LEVELS)

    def networks(self) -> dict[str, tuple[int, ...]]:
        """Layer widths of each network, by the name its tensors have."""
        return {"encoder": self.encoder, "generator": self.generator, "judge": self.discriminator}


@dataclass(frozen=True, slots=True)
class Network:
    """A multilayer perceptron for every member: weights [member, in, out], biases [member, 1, out].

    The last layer has whole lanes of outputs, of which the first `outputs` are used.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    outputs: int

    @classmethod
    def random(cls, widths: tuple[int, ...], members: int, rng: torch.Generator) -> "Network":
        """He-initialised weights drawn from `rng`, biases 0."""
        shapes = layer_shapes(widths)
        gains = [sqrt(2.0)] * (len(shapes) - 1) + [1.0]
        weights = [
            torch.randn(members, fan_in, fan_out, generator=rng) * (gain / sqrt(fan_in))
            for (fan_in, fan_out), gain in zip(shapes, gains, strict=True)
        ]
        weights[-1][:, :, widths[-1] :] = 0
        return cls(tuple(weights), tuple(torch.zeros(members, 1, fan_out) for _, fan_out in shapes), widths[-1])

    def features(self, batch: Tensor) -> Tensor:
        """Activations of the last hidden layer [member, batch, hidden]."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            batch = leaky_relu(torch.baddbmm(bias, batch, weight), LEAK)
        return batch

    def head(self, features: Tensor) -> Tensor:
        """The linear last layer [member, batch, out]."""
        return torch.baddbmm(self.biases[-1], features, self.weights[-1])[:, :, : self.outputs]

    def __call__(self, batch: Tensor) -> Tensor:
        """Outputs [member, batch, out]."""
        return self.head(self.features(batch))

    def features_and_slopes(self, batch: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """The last hidden layer [member, batch, hidden] and its derivative.

        The derivative is by the first `width` inputs, [member, batch, width, hidden].
        """
        slopes: Tensor | None = None
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            before = torch.baddbmm(bias, batch, weight)
            batch = leaky_relu(before, LEAK)
            gate = torch.where(before > 0, 1.0, LEAK).unsqueeze(2)
            if slopes is None:
                slopes = weight[:, None, :width, :] * gate
            else:
                members, rows = slopes.shape[:2]
                slopes = torch.bmm(slopes.flatten(1, 2), weight).view(members, rows, width, -1) * gate
        assert slopes is not None, "an architecture has at least one hidden layer"
        return batch, slopes

    def tensors(self) -> Iterator[Tensor]:
        """Weights and biases, layer by layer."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            yield weight
            yield bias

    def map(self, change: Callable[[Tensor], Tensor]) -> "Network":
        """The same network with every tensor changed."""
        return Network(tuple(map(change, self.weights)), tuple(map(change, self.biases)), self.outputs)


@dataclass(frozen=True, slots=True)
class Gan:
    """Encoder (record to latent), generator (latent to record), discriminator (record to logits)."""

    encoder: Network
    generator: Network
    discriminator: Network

    @classmethod
    def random(cls, sizes: Sizes, rng: torch.Generator) -> "Gan":
        """Untrained networks drawn from `rng`."""
        return cls(
            Network.random(sizes.encoder, sizes.members, rng),
            Network.random(sizes.generator, sizes.members, rng),
            Network.random(sizes.discriminator, sizes.members, rng),
        )

    def encode(self, records: Tensor, context: Tensor) -> Tensor:
        """Latents [member, batch, latent] of records [member, batch, column]."""
        return self.encoder(torch.cat((records, context), 2))

    def generate(self, latents: Tensor, context: Tensor) -> Tensor:
        """Records [member, batch, column] of latents [member, batch, latent]."""
        return self.generator(torch.cat((latents, context), 2))

    def judge(self, records: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Discriminator logits [member, batch, 1 + level] (higher = less real) and last hidden layer."""
        features = self.discriminator.features(torch.cat((records, context), 2))
        return self.discriminator.head(features), features

    def map(self, change: Callable[[Tensor], Tensor]) -> "Gan":
        """The same networks with every tensor changed."""
        return Gan(self.encoder.map(change), self.generator.map(change), self.discriminator.map(change))

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with a stable name."""
        for name, network in (("encoder", self.encoder), ("generator", self.generator), ("judge", self.discriminator)):
            for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
                yield f"{name}.{layer}.weight", weight
                yield f"{name}.{layer}.bias", bias

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], sizes: Sizes) -> "Gan":
        """The inverse of `tensors`."""

        def network(name: str, widths: tuple[int, ...]) -> Network:
            layers = range(len(widths) - 1)
            return Network(
                tuple(tensors[f"{name}.{layer}.weight"] for layer in layers),
                tuple(tensors[f"{name}.{layer}.bias"] for layer in layers),
                widths[-1],
            )

        return cls(*(network(name, widths) for name, widths in sizes.networks().items()))


def layer_shapes(widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer, the last one's outputs in whole lanes."""
    return list(pairwise((*widths[:-1], -(-widths[-1] // LANE) * LANE)))
