"""Opinions that the detector would have during training, without search and calibration.

Cheap enough to be asked many times in a fit, and in the same order of records as the fitted model's
scores where it matters: a checkpoint is chosen by it, never an alert.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_detector.gan.memory import Memory
from stream_detector.gan.networks import Gan
from stream_detector.gan.training import TrainingSet
from stream_detector.scoring.discrimination import FeatureSpread, judge, shown_to_all
from stream_detector.scoring.inversion import FLOOR
from stream_detector.scoring.look import Look, look
from stream_detector.tracking.detection import Probe

__all__ = ["DetectorOpinions"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DetectorOpinions:
    """Opinions "verdict" (of the discriminator's logits alone), "inversion", "discriminator" and
    "combined"; `prior` is the weight of the neighbours' latents in the misfit.
    """

    prior: float

    @torch.inference_mode()
    def __call__(self, gan: Gan, probe: Probe) -> dict[str, Floats]:
        """Scores [record] of the probe's records, higher = more anomalous, in deviations of the normal ones."""
        reference = _placed(gan, probe.reference)
        memory = Memory.of(gan, reference.views, reference.context)
        own = torch.arange(len(reference.context), device=reference.context.device)
        usual = self._look(gan, memory, reference, own)
        spread = FeatureSpread.fit(gan.discriminate(*shown_to_all(gan, usual.evidence, reference.context))[1])
        records = _placed(gan, probe.records)
        seen = self._look(gan, memory, records)
        verdict, distance = judge(gan, spread, seen.evidence, records.context)
        normal = probe.sizes == 0
        inversion = _relative(np.log(_double(seen.begun.misfit) + FLOOR), normal)
        parts = (_double(verdict), np.log(_double(distance) + FLOOR))
        plain, discriminator = (_relative(part, normal) for part in parts)
        return {
            "verdict": plain,
            "inversion": inversion,
            "discriminator": discriminator,
            "combined": (inversion + discriminator) / 2,
        }

    def _look(self, gan: Gan, memory: Memory, data: TrainingSet, own: Tensor | None = None) -> Look:
        members = len(gan.encoder.weights[0]) // len(data.views)
        robust_scale = gan.gauge.spread.repeat_interleave(members, 0)
        return look(gan, memory, robust_scale, data.views, data.context, data.present, self.prior, own)


def _placed(gan: Gan, data: TrainingSet) -> TrainingSet:
    """Copies the records to where the networks are."""
    device = gan.encoder.weights[0].device
    return TrainingSet(data.views.to(device), data.context.to(device), data.present.to(device))


def _double(tensor: Tensor) -> Floats:
    values: Floats = tensor.cpu().numpy().astype(np.float64)
    return values


def _relative(scores: Floats, normal: NDArray[np.bool_]) -> Floats:
    """Mean over the members of scores [member, record], each in deviations from its normal records."""
    centre = scores[:, normal].mean(1, keepdims=True)
    width = np.maximum(scores[:, normal].std(1, keepdims=True), 1e-9)
    mean: Floats = ((scores - centre) / width).mean(0)
    return mean
