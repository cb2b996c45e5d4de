"""The ensemble's layers."""

import pytest
import torch

from stream_detector.gan.networks import ARCHITECTURES, Gan, Network, Sizes


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", ARCHITECTURES)
def test_slopes_are_the_derivative(shape):
    """The derivative that the search uses is the one automatic differentiation finds, for every architecture."""
    hidden = tuple(int(16 * factor) for factor in ARCHITECTURES[shape])
    network = Network.random((5, *hidden, 7), 2, rng())
    inputs = torch.randn(2, 4, 5, generator=rng(1))
    features, slopes = network.features_and_slopes(inputs, 3)
    exact = torch.autograd.functional.jacobian(network.features, inputs)
    own = torch.stack([torch.stack([exact[m, r, :, m, r, :3].T for r in range(4)]) for m in range(2)])
    torch.testing.assert_close(slopes, own)
    torch.testing.assert_close(features, network.features(inputs))


def test_members_do_not_see_each_other():
    """Changing one member's weights changes no other member's outputs."""
    sizes = Sizes(columns=5, context=0, latent=3, hidden=(16, 16), members=3)
    gan = Gan.random(sizes, rng())
    records, context = torch.randn(3, 8, 5, generator=rng(1)), torch.zeros(3, 8, 0)
    before = gan.encode(records, context)
    gan.encoder.weights[0][1] += 1
    after = gan.encode(records, context)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_tensors_round_trip():
    """A GAN rebuilt from its named tensors computes the same."""
    sizes = Sizes(columns=5, context=2, latent=3, hidden=(16, 32), members=2)
    gan = Gan.random(sizes, rng())
    again = Gan.from_tensors(dict(gan.tensors()), sizes)
    records, context = torch.randn(2, 8, 5, generator=rng(1)), torch.randn(2, 8, 2, generator=rng(2))
    assert torch.equal(gan.judge(records, context)[0], again.judge(records, context)[0])
    assert gan.encode(records, context).shape == (2, 8, 3)
