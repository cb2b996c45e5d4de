"""Records that the generator makes, beside the held-out real ones they are compared with."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_detector.gan.detection import Probe
from stream_detector.gan.goodness import JointFit, feature_fit, joint_fit
from stream_detector.gan.networks import Gan

__all__ = ["Generated", "real_quantiles"]

Floats = NDArray[np.float64]
SHOWN_FEATURES = 12  # whose distributions are kept for the plots
PROBABILITIES = np.linspace(0.005, 0.995, 100)
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Generated:
    """One generated record for every held-out one, in the same context, from a fresh latent.

    `columns` float32 [member, record, column] are what the generator gives; `features` float64
    [member * record, feature] are the same in the input's units.
    """

    columns: NDArray[np.float32]
    features: Floats

    @classmethod
    @torch.inference_mode()
    def draw(cls, gan: Gan, probe: Probe, seed: int) -> "Generated":
        """Latents are drawn from the prior by a generator of `seed`, the same at every step."""
        first = gan.generator.weights[0]
        rows = len(probe.held)
        context = probe.records.context[:rows].expand(len(first), -1, -1)
        width = first.shape[1] - context.shape[2]
        latent = torch.randn(len(first), rows, width, generator=torch.Generator().manual_seed(seed))
        made = gan.generate(latent.to(first.device), context.to(first.device)).cpu().numpy()
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


def real_quantiles(probe: Probe) -> Rows:
    """The same rows of the held-out records."""
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
