"""The ensemble's layers."""

import pytest
import torch

from stream_detector.gan.networks import ARCHITECTURES, Gan, Network, Sizes, tensor_shapes


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sizes(context=0, members=2):
    return Sizes(
        columns=5,
        context=context,
        latent=3,
        hidden=(16, 16),
        evidence=24,
        views=1,
        members=members,
        discriminators=3,
        residual=False,
    )


def axes(members=2):
    return torch.linalg.qr(torch.randn(members, 5, 3, generator=rng(7))).Q


@pytest.mark.parametrize("shape", ARCHITECTURES)
@pytest.mark.parametrize("skip", [None, torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(3))])
def test_pulling_is_the_transposed_derivative(shape, skip):
    """What the search pulls back is what automatic differentiation finds, for every architecture."""
    hidden = tuple(int(16 * factor) for factor in ARCHITECTURES[shape])
    network = Network.random((5, *hidden, 7), 2, rng(), 1.0, skip, residual=shape == "residual")
    inputs = torch.randn(2, 4, 5, generator=rng(1)).requires_grad_()
    weights = torch.randn(2, 4, 7, generator=rng(2))
    (exact,) = torch.autograd.grad((network(inputs) * weights).sum(), inputs)
    outputs, activations = network.with_activations(inputs.detach())
    torch.testing.assert_close(network.vjp(weights, activations), exact)
    torch.testing.assert_close(outputs, network(inputs.detach()))


def test_a_new_gan_projects_onto_its_axes():
    """Encoder and generator start, nearly, as the linear map onto the given axes and back, whatever the context."""
    gan = Gan.random(sizes(context=2), rng(), axes())
    records, context = torch.randn(2, 8, 5, generator=rng(1)), torch.randn(2, 8, 2, generator=rng(2))
    rebuilt = gan.generate(gan.encode(records, context), context)
    torch.testing.assert_close(rebuilt, records @ axes() @ axes().transpose(1, 2), rtol=0, atol=0.1)


def test_members_do_not_see_each_other():
    """Changing one member's weights changes no other member's outputs."""
    gan = Gan.random(sizes(members=3), rng())
    records, context = torch.randn(3, 8, 5, generator=rng(1)), torch.zeros(3, 8, 0)
    before = gan.encode(records, context)
    gan.encoder.weights[0][1] += 1
    after = gan.encode(records, context)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.equal(before[1], after[1])


def test_tensors_round_trip():
    """A GAN rebuilt from its named tensors computes the same, and every tensor has the shape it should."""
    gan = Gan.random(sizes(context=2), rng(), axes())
    again = Gan.from_tensors(dict(gan.tensors()), sizes(context=2))
    evidence, context = torch.randn(3, 8, 24, generator=rng(1)), torch.randn(3, 8, 2, generator=rng(2))
    assert torch.equal(gan.discriminate(evidence, context)[0], again.discriminate(evidence, context)[0])
    records = evidence[:2, :, :5]
    assert torch.equal(gan.encode(records, context[:2]), again.encode(records, context[:2]))
    assert {name: tuple(tensor.shape) for name, tensor in gan.tensors()} == tensor_shapes(sizes(context=2))
