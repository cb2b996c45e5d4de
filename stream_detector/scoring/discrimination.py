"""The discriminator's opinion: its verdict, and how far from normal its features are.

What a discriminator has learnt is in its features more than in its verdict, so both are used: the
mean of its real-or-fake and noise-level logits, and the Mahalanobis distance of its last hidden
layer from that of normal records (Lee et al., NeurIPS 2018).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stream_detector.gan.networks import Gan

__all__ = ["FeatureSpread", "judge"]

SHRINKAGE = 1e-3  # of the mean variance, added to every variance: features may be collinear


@dataclass(frozen=True, slots=True)
class FeatureSpread:
    """Mean [member, 1, hidden] and whitening [member, hidden, hidden] of normal records' features."""

    mean: Tensor
    whitening: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> "FeatureSpread":
        """From features [member, record, hidden] of training records."""
        exact = features.double()
        mean = exact.mean(1, keepdim=True)
        centred = exact - mean
        covariance = torch.bmm(centred.transpose(1, 2), centred) / max(1, features.shape[1] - 1)
        variance = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        identity = torch.eye(features.shape[2], dtype=exact.dtype, device=exact.device)
        factor = torch.linalg.cholesky(covariance + (SHRINKAGE * variance + 1e-9) * identity)
        whitening = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        return cls(mean.float(), whitening.transpose(1, 2).contiguous().float())


def _verdict(logits: Tensor) -> Tensor:
    """How sure the discriminator is that records are not real [member, record], higher = surer."""
    return logits.mean(2)


def _distance(features: Tensor, spread: FeatureSpread) -> Tensor:
    """Squared Mahalanobis distance of features [member, record, hidden], [member, record]."""
    return torch.bmm(features - spread.mean, spread.whitening).square().sum(2)


def judge(gan: Gan, spread: FeatureSpread, records: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """Verdict and squared distance of records, both [member, record]."""
    logits, features = gan.judge(records, context)
    return _verdict(logits), _distance(features, spread)
