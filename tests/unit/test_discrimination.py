"""The discriminator's two measures."""

import numpy as np
import torch
from small_models import correlated, numeric

from stream_detector.scoring.discrimination import SHRINKAGE, FeatureSpread


def test_distance_is_mahalanobis():
    """The distance is that of the features' mean and covariance, as NumPy computes it."""
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(1, 500, 4, generator=rng) @ torch.randn(4, 4, generator=rng)
    spread = FeatureSpread.fit(features)
    centred = (features - features.mean(1, keepdim=True))[0].double().numpy()
    covariance = np.cov(centred.T)
    covariance += np.eye(4) * SHRINKAGE * covariance.diagonal().mean()
    exact = np.einsum("ij,jk,ik->i", centred, np.linalg.inv(covariance), centred)
    ours = spread.distance(features)[0].numpy()
    np.testing.assert_allclose(ours, exact, rtol=1e-3)


def test_collinear_features_have_a_distance():
    """Features that are constant or copies of each other give finite distances."""
    features = torch.ones(2, 50, 8)
    features[:, :, 0] = torch.arange(50.0)
    features[:, :, 1] = torch.arange(50.0)
    spread = FeatureSpread.fit(features)
    assert torch.isfinite(spread.whitening).all()


def test_both_measures_rise_with_noise():
    """Noised records are, on average, moved farther and farther away than the records they were made from."""
    model = numeric()
    clean = np.nan_to_num(correlated(300, 3))
    noise = np.random.default_rng(0).normal(size=clean.shape).astype(np.float32)
    before, after = (
        model.scorer.raw(rows).table.reshape(300, -1, 4)[:, :, 2:].mean(0) for rows in (clean, clean + noise)
    )
    assert (after > before).all()
