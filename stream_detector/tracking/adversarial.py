"""A plain GAN (Goodfellow et al. 2014): generator against discriminator, and nothing else.

The detector is not fitted this way. Here the discriminator sees no negatives but the generator's records,
so the better the generator, the less the discriminator knows. The study of the sweet spot shows this.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from stream_detector.gan.networks import Gan
from stream_detector.gan.noise import gaussian
from stream_detector.gan.optimisation import TrainingCallback, TrainingState
from stream_detector.gan.settings import ModelSettings
from stream_detector.gan.training import TrainingSet, sizes_for

__all__ = ["train_adversarially"]

REPORTED = 50  # steps between two reports of progress
AVERAGING = 0.9  # decay a step: the discriminator as it is now, without the last batch's whim


def train_adversarially(
    data: TrainingSet,
    settings: ModelSettings,
    seed: int,
    progress: Callable[[int, int, str], None],
    callback: TrainingCallback,
) -> None:
    """Trains for `settings.steps`, on the CPU; the encoder stays as it is. `callback` follows it and may resume it."""
    rng = torch.Generator().manual_seed(seed)
    sizes = sizes_for(settings, data.views.shape[2], 0)
    sizes = replace(sizes, evidence=sizes.columns, discriminators=sizes.members)  # it sees the record alone
    gan = Gan.random(sizes, rng).map(Tensor.requires_grad_)
    generator, discriminator = list(gan.generator.tensors()), list(gan.discriminator.tensors())
    optimisers = [
        torch.optim.Adam(group, settings.learning_rate, betas=(0.5, 0.99)) for group in (generator, discriminator)
    ]
    average = gan.map(lambda tensor: tensor.detach().clone())
    state = TrainingState(gan, average, optimisers, rng)
    for step in range(callback.begin(state), settings.steps):
        rows = torch.randint(0, data.views.shape[1], (sizes.members, settings.batch), generator=rng)
        latent = gaussian((sizes.members, settings.batch, sizes.latent), rng)
        real, context = data.views[0][rows], data.context[rows]
        fake = gan.generate(latent, context)
        discriminator_loss = (
            softplus(_logit(gan, real, context)).mean() + softplus(-_logit(gan, fake.detach(), context)).mean()
        )
        _descend(optimisers[1], discriminator, discriminator_loss)
        generator_loss = softplus(_logit(gan, fake, context)).mean()
        _descend(optimisers[0], generator, generator_loss)
        _follow(average, gan)
        callback.after(
            step + 1,
            state,
            {"generator_loss": generator_loss.detach(), "discriminator_loss": discriminator_loss.detach()},
        )
        if step % REPORTED == REPORTED - 1 or step == settings.steps - 1:
            progress(step + 1, settings.steps, f"loss {float(discriminator_loss.detach()):.3f}")


def _logit(gan: Gan, records: Tensor, context: Tensor) -> Tensor:
    """The logits of "generated" [member, record]."""
    return gan.discriminate(records, context)[0][..., 0]


def _descend(optimiser: torch.optim.Optimizer, group: list[Tensor], loss: Tensor) -> None:
    for tensor, gradient in zip(group, torch.autograd.grad(loss, group), strict=True):
        tensor.grad = gradient
    optimiser.step()


@torch.no_grad()
def _follow(average: Gan, gan: Gan) -> None:
    for (_, held), (_, tensor) in zip(average.tensors(), gan.tensors(), strict=True):
        held.lerp_(tensor, 1 - AVERAGING)
