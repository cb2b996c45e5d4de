"""The discriminator's opinion: its verdict, and how far from normal its features are.

What a discriminator has learnt is in its features more than in its verdict, so both are used: the
mean of its logits of the smaller displacements, and the Mahalanobis distance of its last hidden
layer from that of normal records (Lee et al., NeurIPS 2018).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_detector.gan.networks import Gan

__all__ = ["FeatureSpread", "judge", "shown_to_all"]

SHRINKAGE = 3e-3  # of the mean variance, added to every variance: features may be collinear
SMALL = 3  # displacements whose logits are the verdict


@dataclass(frozen=True, slots=True)
class FeatureSpread:
    """Mean [member, 1, hidden] and whitening [member, hidden, hidden] of normal records' features."""

    mean: Tensor
    whitening: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> "FeatureSpread":
        """Learns the spread from features [member, record, hidden] of training records."""
        exact = features.double()
        mean = exact.mean(1, keepdim=True)
        centred = exact - mean
        covariance = torch.bmm(centred.transpose(1, 2), centred) / max(1, features.shape[1] - 1)
        variance = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        identity = torch.eye(features.shape[2], dtype=exact.dtype, device=exact.device)
        factor = torch.linalg.cholesky(covariance + (SHRINKAGE * variance + 1e-9) * identity)
        whitening = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        return cls(mean.float(), whitening.transpose(1, 2).contiguous().float())

    def distance(self, features: Tensor) -> Tensor:
        """Squared Mahalanobis distance of features [member, record, hidden], [member, record]."""
        return torch.bmm(features - self.mean, self.whitening).square_().sum(2)

    def to(self, device: torch.device) -> "FeatureSpread":
        """Copies the spread to `device`."""
        return FeatureSpread(self.mean.to(device), self.whitening.to(device))


def judge(gan: Gan, spread: FeatureSpread, evidence: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """Verdict and squared distance, both [member, record], of evidence [view, record, input]."""
    logits, features = gan.discriminate(*shown_to_all(gan, evidence, context))
    return logits[:, :, :SMALL].mean(2), spread.distance(features)


def shown_to_all(gan: Gan, evidence: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """Repeats evidence and context [record, column] for every discriminator, [member, record, input]."""
    members = len(gan.discriminator.weights[0])
    shown = evidence.repeat_interleave(members // len(evidence), 0)
    return shown, context.expand(members, -1, -1)
