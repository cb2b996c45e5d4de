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
from torch.nn.functional import leaky_relu, pad

from stream_detector.gan.noise import DISPLACEMENTS, gaussian

__all__ = [
    "ARCHITECTURES",
    "COLUMN_INPUTS",
    "DISTANCE_INPUTS",
    "LANE",
    "LEVELS",
    "Gan",
    "Gauge",
    "Network",
    "Sizes",
    "evidence_width",
    "tensor_shapes",
]

LEAK = 0.1
LANE = 16
LEVELS = len(DISPLACEMENTS)  # that the discriminator tells apart
COLUMN_INPUTS = (
    4  # of every column: the value, what it is off the nearest record and the neighbours' mean, the residual
)
DISTANCE_INPUTS = 4  # half the log distance of each of the three neighbours, nearest first, and of what is generated

ARCHITECTURES: Mapping[str, tuple[float, ...]] = {
    "mlp": (1.0, 1.0),
    "shallow": (2.0,),
    "deep": (1.0, 1.0, 1.0),
    "residual": (1.0, 1.0, 1.0),
    "funnel": (2.0, 1.0),
}
"""Hidden layers by name, their widths as multiples of the width set. In `residual` each but the first adds
to what it is given (He et al. 2016)."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of a GAN: judged columns, context columns, latent, hidden layers, and what the
    discriminator is shown; and how many views, encoders with generators, and discriminators there are.
    """

    columns: int
    context: int
    latent: int
    hidden: tuple[int, ...]
    evidence: int
    views: int
    members: int
    discriminators: int
    residual: bool

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
        """Layer widths from the evidence to one logit a displacement."""
        return (self.evidence + self.context, *self.hidden, LEVELS)


@dataclass(frozen=True, slots=True)
class Network:
    """A multilayer perceptron for every member: weights [member, in, out], biases [member, 1, out].

    The last layer has whole lanes of outputs, of which the first `outputs` are used. With `skip`
    [member, in, out], a linear map of the inputs is added to the outputs. If `residual`, hidden layers
    after the first add to the one before; all are equally wide.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    outputs: int
    skip: Tensor | None = None
    residual: bool = False

    @classmethod
    def random(
        cls,
        widths: tuple[int, ...],
        members: int,
        rng: torch.Generator,
        gain: float = 1.0,
        skip: Tensor | None = None,
        *,
        residual: bool = False,
    ) -> "Network":
        """Makes He-initialised weights, drawn from `rng`, the last layer's times `gain`; biases 0."""
        shapes = _layers(widths)
        gains = [sqrt(2.0)] * (len(shapes) - 1) + [gain]
        weights = [
            gaussian((members, fan_in, fan_out), rng) * (size / sqrt(fan_in))
            for (fan_in, fan_out), size in zip(shapes, gains, strict=True)
        ]
        weights[-1][:, :, widths[-1] :] = 0
        if skip is not None:  # inputs that it does not name, such as context, start without one
            skip = pad(skip, (0, shapes[-1][1] - skip.shape[2], 0, widths[0] - skip.shape[1])).contiguous()
        biases = tuple(torch.zeros(members, 1, fan_out, dtype=torch.float32) for _, fan_out in shapes)
        return cls(tuple(weights), biases, widths[-1], skip, residual)

    def features(self, batch: Tensor) -> Tensor:
        """The last hidden layer [member, batch, hidden]."""
        for layer in range(len(self.weights) - 1):
            activation = self._activation(layer, batch)
            batch = batch + activation if layer and self.residual else activation
        return batch

    def head(self, features: Tensor) -> Tensor:
        """The linear last layer [member, batch, out], without the skip."""
        return torch.baddbmm(self.biases[-1], features, self.weights[-1])[:, :, : self.outputs]

    def __call__(self, batch: Tensor) -> Tensor:
        """Outputs [member, batch, out]."""
        return self._last(self.features(batch), batch)

    def with_activations(self, batch: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Outputs, and every hidden layer's activation [member, batch, hidden] for `vjp`."""
        inputs, activations = batch, []
        for layer in range(len(self.weights) - 1):
            activations.append(self._activation(layer, batch))
            batch = batch + activations[-1] if layer and self.residual else activations[-1]
        return self._last(batch, inputs), activations

    def vjp(self, outputs: Tensor, activations: list[Tensor]) -> Tensor:
        """The vector-Jacobian product [member, batch, in] of the inputs with `outputs` [member, batch, out]."""
        outputs = pad(outputs, (0, self.weights[-1].shape[2] - self.outputs))
        gradient = torch.bmm(outputs, self.weights[-1].transpose(1, 2))
        for layer, after in reversed(list(enumerate(activations))):
            # A leaky rectifier keeps the sign, so its slope can be told from its result.
            slope = torch.ops.aten.leaky_relu_backward(gradient, after, LEAK, True)
            through = torch.bmm(slope, self.weights[layer].transpose(1, 2))
            gradient = gradient + through if layer and self.residual else through
        return gradient if self.skip is None else torch.baddbmm(gradient, outputs, self.skip.transpose(1, 2))

    def tensors(self) -> Iterator[Tensor]:
        """Yields weights and biases, layer by layer, then the skip."""
        for _, tensor in self.named_tensors():
            yield tensor

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields weights, biases and the skip with their stable names."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            yield f"{layer}.weight", weight
            yield f"{layer}.bias", bias
        if self.skip is not None:
            yield "skip", self.skip

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], name: str, widths: tuple[int, ...], *, residual: bool
    ) -> "Network":
        """Makes the network of tensors as `named_tensors` names them, with `name` before each name."""
        layers = range(len(widths) - 1)
        return cls(
            tuple(tensors[f"{name}.{layer}.weight"] for layer in layers),
            tuple(tensors[f"{name}.{layer}.bias"] for layer in layers),
            widths[-1],
            tensors.get(f"{name}.skip"),
            residual,
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> "Network":
        """A network of the same shape, every tensor changed."""
        skip = None if self.skip is None else change(self.skip)
        weights, biases = tuple(map(change, self.weights)), tuple(map(change, self.biases))
        return Network(weights, biases, self.outputs, skip, self.residual)

    def _activation(self, layer: int, batch: Tensor) -> Tensor:
        return leaky_relu(torch.baddbmm(self.biases[layer], batch, self.weights[layer]), LEAK)

    def _last(self, features: Tensor, batch: Tensor) -> Tensor:
        outputs = torch.baddbmm(self.biases[-1], features, self.weights[-1])
        if self.skip is not None:
            outputs = torch.baddbmm(outputs, batch, self.skip)
        return outputs[:, :, : self.outputs]


@dataclass(frozen=True, slots=True)
class Gauge:
    """The units of displacements: `spread` [view, 1, column] is a column's standard deviation;
    `floor` and `centre` [view, 1, 1] are a least and a usual squared distance of normal records, the
    latter as half its logarithm.
    """

    spread: Tensor
    floor: Tensor
    centre: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Gauge":
        """A gauge with every tensor changed."""
        return Gauge(change(self.spread), change(self.floor), change(self.centre))


@dataclass(frozen=True, slots=True)
class Gan:
    """Encoder (record to latent), generator (latent to record), discriminator (evidence to logits)."""

    encoder: Network
    generator: Network
    discriminator: Network
    gauge: Gauge

    @classmethod
    def random(cls, sizes: Sizes, rng: torch.Generator, axes: Tensor | None = None) -> "Gan":
        """Makes untrained networks, drawn from `rng`; with `axes` [member, column, latent] (orthonormal),
        encoder and generator start as the linear map onto them and back.
        """
        back = None if axes is None else axes.transpose(1, 2)
        small, gain = (1.0, 1.0) if axes is None else (0.01, 0.3)
        deep = sizes.residual
        return cls(
            Network.random(sizes.encoder, sizes.members, rng, small, axes, residual=deep),
            Network.random(sizes.generator, sizes.members, rng, small, back, residual=deep),
            Network.random(sizes.discriminator, sizes.discriminators, rng, gain, residual=deep),
            Gauge(
                torch.ones(sizes.views, 1, sizes.columns, dtype=torch.float32),
                *torch.zeros(2, sizes.views, 1, 1, dtype=torch.float32),
            ),
        )

    def encode(self, records: Tensor, context: Tensor) -> Tensor:
        """Latents [member, batch, latent] of records [member, batch, column]."""
        return self.encoder(_beside(records, context))

    def generate(self, latents: Tensor, context: Tensor) -> Tensor:
        """Records [member, batch, column] of latents [member, batch, latent]."""
        return self.generator(_beside(latents, context))

    def discriminate(self, evidence: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Discriminator logits [member, batch, level] (higher = moved farther) and last hidden layer."""
        features = self.discriminator.features(_beside(evidence, context))
        return self.discriminator.head(features), features

    def map(self, change: Callable[[Tensor], Tensor]) -> "Gan":
        """Networks of the same shapes, every tensor changed."""
        return Gan(
            self.encoder.map(change), self.generator.map(change), self.discriminator.map(change), self.gauge.map(change)
        )

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields every tensor with its stable name."""
        for name, network in (("encoder", self.encoder), ("generator", self.generator), ("judge", self.discriminator)):
            for part, tensor in network.named_tensors():
                yield f"{name}.{part}", tensor
        for part in ("spread", "floor", "centre"):
            yield f"gauge.{part}", getattr(self.gauge, part)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], sizes: Sizes) -> "Gan":
        """Makes the networks of tensors as `tensors` names them."""
        return cls(
            Network.from_tensors(tensors, "encoder", sizes.encoder, residual=sizes.residual),
            Network.from_tensors(tensors, "generator", sizes.generator, residual=sizes.residual),
            Network.from_tensors(tensors, "judge", sizes.discriminator, residual=sizes.residual),
            Gauge(*(tensors[f"gauge.{part}"] for part in ("spread", "floor", "centre"))),
        )


def evidence_width(columns: int) -> int:
    """The number of inputs that `gan.evidence` makes of so many columns."""
    return COLUMN_INPUTS * columns + DISTANCE_INPUTS


def tensor_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a trained GAN, by name."""
    networks = {
        "encoder": (sizes.members, sizes.encoder),
        "generator": (sizes.members, sizes.generator),
        "judge": (sizes.discriminators, sizes.discriminator),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (members, widths) in networks.items():
        layers = _layers(widths)
        for layer, (fan_in, fan_out) in enumerate(layers):
            shapes[f"{name}.{layer}.weight"] = (members, fan_in, fan_out)
            shapes[f"{name}.{layer}.bias"] = (members, 1, fan_out)
        if name != "judge":
            shapes[f"{name}.skip"] = (members, widths[0], layers[-1][1])
    return shapes | {
        "gauge.spread": (sizes.views, 1, sizes.columns),
        "gauge.floor": (sizes.views, 1, 1),
        "gauge.centre": (sizes.views, 1, 1),
    }


def _layers(widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer, the last one's outputs in whole lanes."""
    return list(pairwise((*widths[:-1], -(-widths[-1] // LANE) * LANE)))


def _beside(batch: Tensor, context: Tensor) -> Tensor:
    return torch.cat((batch, context), 2) if context.shape[2] else batch
