"""What the detector would say during training: its opinions without search and calibration.

Cheap enough to be asked many times in a fit, and in the same order of records as the fitted model's
scores where it matters: a checkpoint is chosen by it, never an alert.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.gan.detection import Probe
from stream_detector.gan.networks import Gan
from stream_detector.gan.settings import Mode
from stream_detector.gan.training import TrainingSet
from stream_detector.scoring.discrimination import FeatureSpread, judge
from stream_detector.scoring.inversion import Problem, start

__all__ = ["DetectorOpinions", "deciding_opinion"]

Floats = NDArray[np.float64]
FLOOR = 1e-6  # of an objective or distance, before its logarithm


def deciding_opinion(mode: Mode) -> str:
    """The opinion that chooses the checkpoint of a model of this mode."""
    return "inversion" if mode == "reconstruction" else mode


@dataclass(frozen=True, slots=True)
class DetectorOpinions:
    """Opinions "verdict" (real or fake, as a plain GAN's discriminator), "inversion",
    "discriminator" and "combined"; `prior` is the weight of the latent in the objective.
    """

    prior: float

    @torch.inference_mode()
    def __call__(self, gan: Gan, probe: Probe) -> dict[str, Floats]:
        """Scores [record] of the probe's records, higher = more anomalous, in deviations of the normal ones."""
        records, context, present = _on_members(gan, probe.records)
        spread = FeatureSpread.fit(gan.judge(*_on_members(gan, probe.reference)[:2])[1])
        objective = start(gan, Problem(records, context, present, self.prior)).objective
        verdict, distance = judge(gan, spread, records, context)
        normal = probe.sizes == 0
        plain = _relative(_exact(gan.judge(records, context)[0][..., 0]), normal)
        inversion = _relative(np.log(_exact(objective) + FLOOR), normal)
        parts = (_exact(verdict), np.log(_exact(distance) + FLOOR))
        discriminator = np.mean([_relative(part, normal) for part in parts], axis=0)
        return {
            "verdict": plain,
            "inversion": inversion,
            "discriminator": discriminator,
            "combined": (inversion + discriminator) / 2,
        }


def _on_members(gan: Gan, data: TrainingSet) -> tuple[Tensor, Tensor, Tensor]:
    """Records, context and presence, each [member, record, column], where the networks are."""
    first = gan.encoder.weights[0]
    records = data.views.repeat_interleave(len(first) // len(data.views), 0)
    context, present = (part.expand(len(records), -1, -1) for part in (data.context, data.present))
    return records.to(first.device), context.to(first.device), present.to(first.device)


def _exact(tensor: Tensor) -> Floats:
    values: Floats = tensor.cpu().numpy().astype(np.float64)
    return values


def _relative(scores: Floats, normal: NDArray[np.bool_]) -> Floats:
    """Mean over the members of scores [member, record], each in deviations from its normal records."""
    centre = scores[:, normal].mean(1, keepdims=True)
    width = np.maximum(scores[:, normal].std(1, keepdims=True), 1e-9)
    mean: Floats = ((scores - centre) / width).mean(0)
    return mean
