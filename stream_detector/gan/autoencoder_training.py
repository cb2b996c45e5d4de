"""The first part of a training: a denoising autoencoder, whose decoder is the generator.

Encoder and generator learn to reconstruct normal records from noised ones (Vincent et al. 2008).

They start as principal component analysis, by a linear map beside each network, and a small critic
keeps what they generate among the real records (Goodfellow et al. 2014; as in ALAD and EGBAD, Zenati
et al. 2018). So latents are in the units of the data, and the generator nearly keeps distances,
which is why the inversion's steps may take the linear part for the Jacobian.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from stream_detector.gan.networks import Network, Sizes
from stream_detector.gan.noise import blurred, column_spread, gaussian, log_uniform, uniform
from stream_detector.gan.optimisation import Descent, TrainingState, average_into, decay
from stream_detector.gan.settings import ModelSettings

__all__ = ["AutoencoderTraining", "latent_width", "principal_axes"]

NOISE = (0.02, 0.7)  # standard deviations, log-uniform
SWAPPED, MOST_FOREIGN = 0.3, 0.5  # share of records with other records' values, and most columns that have them
EXPLAINED = 0.9  # of the variance, by a latent's axes
LEAST_LATENT, MOST_LATENT = 8, 64
AXIS_VALUES = 2_000_000  # numbers that principal axes are found from


class AutoencoderTraining:
    """Trains `state.gan.encoder` and `.generator`, and their average, on the views of normal records."""

    def __init__(
        self,
        views: Tensor,
        context: Tensor,
        present: Tensor,
        settings: ModelSettings,
        seed: int,
        state: TrainingState,
    ) -> None:
        self._views, self._context, self._present = views, context, present
        self._settings, self._state = settings, state
        self._members = len(views) * settings.members
        self._device = state.gan.encoder.weights[0].device
        self._spread = column_spread(views).repeat_interleave(settings.members, 0).to(self._device)
        widths = (views.shape[2] + context.shape[1], settings.hidden, settings.hidden, 1)
        # Its own generator: processes that train together start with the same critic.
        critic = Network.random(widths, self._members, torch.Generator().manual_seed(seed + 2), 0.3)
        self._critic = critic.map(lambda tensor: nn.Parameter(tensor.to(self._device)))
        weights = list(self._critic.tensors())
        critics = torch.optim.Adam(weights, settings.learning_rate, betas=(0.5, 0.99), foreach=True)
        self._descend, self._descend_critic = Descent(state.optimisers[0]), Descent(critics)
        self._batch = min(max(settings.batch // 2, 1), max(32, views.shape[1]))

    def step(self, step: int) -> dict[str, Tensor]:
        """Takes one step of encoder and generator, and every second time one of the critic; returns the losses."""
        steps = self._settings.autoencoder_steps
        rate = self._settings.learning_rate * decay(step, steps)
        records, context, present = self._draw()
        noised = records + self._noise(records)
        reconstruct: Callable[[], Tensor] = partial(self._reconstruction_loss, noised, records, context, present)
        if step % 2 == 1 and step >= steps // 10:
            loss = self._adversarial_step(reconstruct, records, context, rate)
        else:
            (loss,) = self._descend(lambda: (reconstruct(),), rate)
        for averaged, network in self._networks():
            average_into(averaged, network, self._settings.averaging, step)
        return {"autoencoder_loss": loss}

    @torch.no_grad()
    def finish(self) -> None:
        """Replaces the networks by their average: the discriminator is trained against it."""
        for averaged, network in self._networks():
            for held, tensor in zip(averaged.tensors(), network.tensors(), strict=True):
                tensor.copy_(held)

    def _adversarial_step(
        self, reconstruct: Callable[[], Tensor], records: Tensor, context: Tensor, rate: float
    ) -> Tensor:
        """Takes a step of encoder and generator that also has to fool the critic, and one of the critic; returns the
        reconstruction loss.
        """
        gan = self._state.gan
        made = blurred(gan.encode(records, context).detach(), self._state.rng)

        def generator_losses() -> tuple[Tensor, Tensor, Tensor]:
            residual, fakes = reconstruct(), gan.generate(made, context)
            fooling = softplus(self._critic_logit(fakes, context)).mean()
            return residual + self._settings.adversarial * fooling, residual, fakes

        _, residual, fakes = self._descend(generator_losses, rate)
        real, real_context, _ = self._draw()

        def critic_loss() -> tuple[Tensor]:
            losses = softplus(self._critic_logit(real, real_context)) + softplus(-self._critic_logit(fakes, context))
            return (losses.mean(),)

        self._descend_critic(critic_loss, rate)
        return residual

    def _reconstruction_loss(self, noised: Tensor, records: Tensor, context: Tensor, present: Tensor) -> Tensor:
        gan = self._state.gan
        residual = (gan.generate(gan.encode(noised, context), context) - records) * present
        return (residual.square() / self._spread).mean()

    def _networks(self) -> tuple[tuple[Network, Network], ...]:
        average, gan = self._state.average, self._state.gan
        return (average.encoder, gan.encoder), (average.generator, gan.generator)

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draws a batch for every member, each with rows of its own, so that members differ."""
        rows = torch.randint(self._views.shape[1], (self._members, self._batch), generator=self._state.rng)
        view = torch.arange(self._members).div(self._settings.members, rounding_mode="floor")
        records, context, present = self._views[view[:, None], rows], self._context[rows], self._present[rows]
        return records.to(self._device), context.to(self._device), present.to(self._device)

    def _noise(self, records: Tensor) -> Tensor:
        """Makes what is added to a batch: noise on random columns, or for some records the way to another one's values."""
        rng, shape = self._state.rng, (*records.shape[:2], 1)
        touched = uniform(records.shape, rng) < 1.5 * uniform(shape, rng)
        noise = gaussian(records.shape, rng) * log_uniform(shape, NOISE, rng) * touched
        foreign = uniform(records.shape, rng) < MOST_FOREIGN * uniform(shape, rng)
        swapped = uniform(shape, rng) < SWAPPED
        others = records[:, torch.randperm(records.shape[1], generator=rng)]
        device = records.device
        towards = (others - records) * foreign.to(device)
        return torch.where(swapped.to(device), towards, noise.to(device) * self._spread)

    def _critic_logit(self, records: Tensor, context: Tensor) -> Tensor:
        """Logit of "generated" [member, record, 1]."""
        return self._critic(torch.cat((records, context), 2))


def latent_width(views: Tensor) -> int:
    """The width of a latent that suits records [view, record, column]: so many principal axes explain most of
    their variance. A wider one explains anomalies as well.
    """
    widths = []
    for view in _axis_rows(views):
        share = torch.linalg.svdvals(view - view.mean(0)).square().cumsum(0)
        widths.append(int((share < EXPLAINED * share[-1]).sum()) + 1)
    return min(max(*widths, LEAST_LATENT), MOST_LATENT, views.shape[2])


def principal_axes(views: Tensor, sizes: Sizes) -> Tensor:
    """The leading principal axes [member, column, latent] of every view, 0 where there are fewer."""
    axes = []
    for view in _axis_rows(views):
        found = torch.linalg.svd(view, full_matrices=False).Vh[: sizes.latent].T
        axes.append(pad(found, (0, sizes.latent - found.shape[1])))
    return torch.stack(axes).repeat_interleave(sizes.members // len(views), 0)


def _axis_rows(views: Tensor) -> Tensor:
    return views[:, : min(4000, max(256, AXIS_VALUES // views.shape[2]))].cpu()
