"""Records that the generator makes, beside the held-out real ones they are compared with."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.gan.networks import Gan
from stream_detector.gan.noise import blurred, gaussian
from stream_detector.tracking.detection import Probe
from stream_detector.tracking.goodness import JointFit, feature_fit, joint_fit

__all__ = ["Generated", "Prior", "near_records", "real_quantiles", "standard_normal"]

Floats = NDArray[np.float64]
SHOWN_FEATURES = 12  # whose distributions are kept for the plots
PROBABILITIES = np.linspace(0.005, 0.995, 100)
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated record for every held-out one, each from a fresh latent.

    `columns` float32 [member, record, column] are what the generator gives; `features` float64
    [member * record, feature] are those in the input's units.
    """

    columns: NDArray[np.float32]
    features: Floats

    @classmethod
    @torch.inference_mode()
    def draw(cls, gan: Gan, probe: Probe, seed: int, prior: "Prior") -> "Generated":
        """Draws latents from the prior by a random generator of `seed`, and generates; every step has equal draws."""
        made = gan.generate(*prior(gan, probe, torch.Generator().manual_seed(seed))).cpu().numpy()
        per_view = len(made) // len(probe.normaliser.views)
        back = [probe.normaliser.inverse(columns, member // per_view) for member, columns in enumerate(made)]
        return cls(made, np.concatenate(back))

    def joint(self, probe: Probe) -> list[JointFit]:
        """The joint fit of every member's records, each in its own view."""
        rows = len(probe.held)
        views = probe.records.views[:, :rows].numpy().astype(np.float64)
        per_view = len(self.columns) // len(views)
        return [
            joint_fit(views[member // per_view], columns.astype(np.float64))
            for member, columns in enumerate(self.columns)
        ]

    def by_feature(self, probe: Probe) -> Rows:
        """A row (feature, ks, wasserstein) for every judged feature; None where it is constant."""
        rows = []
        for position, feature in enumerate(probe.normaliser.layout.schema.features):
            if not feature.context:
                fit = feature_fit(probe.held[:, position].astype(np.float64), self.features[:, position])
                rows.append({"feature": feature.name} | {k: None if v != v else v for k, v in asdict(fit).items()})
        return rows

    def quantiles(self, probe: Probe) -> Rows:
        """Rows (feature, probability, value) of the first few judged features, in the input's units."""
        return _quantiles(self.features, probe)


Prior = Callable[[Gan, Probe, torch.Generator], tuple[Tensor, Tensor]]
"""From networks, probe and random state to latents and context, [member, record, latent or column]."""


def standard_normal(gan: Gan, probe: Probe, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The prior of a plain GAN, in the context of the held-out records."""
    first = gan.generator.weights[0]
    rows = len(probe.held)
    context = probe.records.context[:rows].expand(len(first), -1, -1)
    latent = gaussian((len(first), rows, first.shape[1] - context.shape[2]), rng)
    return latent.to(first.device), context.to(first.device)


def near_records(gan: Gan, probe: Probe, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """The prior of a generator with an encoder: training records' latents, blurred, in their context."""
    first = gan.generator.weights[0]
    rows = torch.randint(len(probe.reference.context), (len(probe.held),), generator=rng)
    context = probe.reference.context[rows].expand(len(first), -1, -1).to(first.device)
    records = probe.reference.views[:, rows].repeat_interleave(len(first) // len(probe.reference.views), 0)
    return blurred(gan.encode(records.to(first.device), context), rng), context


def real_quantiles(probe: Probe) -> Rows:
    """The rows of `Generated.quantiles` for the held-out records."""
    return _quantiles(probe.held.astype(np.float64), probe)


def _quantiles(matrix: Floats, probe: Probe) -> Rows:
    features = probe.normaliser.layout.schema.features
    shown = [position for position, feature in enumerate(features) if not feature.context][:SHOWN_FEATURES]
    rows: Rows = []
    for position in shown:
        values = matrix[:, position][~np.isnan(matrix[:, position])]
        found = np.quantile(values, PROBABILITIES) if len(values) else ()
        rows += [
            {"feature": features[position].name, "probability": float(p), "value": float(v)}
            for p, v in zip(PROBABILITIES, found, strict=False)
        ]
    return rows
