"""Training of the networks on normal records only: encoder and generator, then the discriminator.

Seeded by its own generators and free of global state: the same records, settings and seed give the
same bits on the same CPU and thread count.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stream_detector.gan import distributed
from stream_detector.gan.autoencoder_training import AutoencoderTraining, principal_axes
from stream_detector.gan.discriminator_training import DiscriminatorTraining
from stream_detector.gan.networks import ARCHITECTURES, LANE, Gan, Sizes, evidence_width
from stream_detector.gan.optimisation import TrainingCallback, TrainingState, synchronised
from stream_detector.gan.settings import ModelSettings

__all__ = ["Progress", "TrainingSet", "follow", "sizes_for", "train"]

Progress = Callable[[int, int, str], None]
SILENT_STEPS = 50  # steps between two reports of progress


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Normalised normal records: every view [view, record, column], context, and what is present.

    `present` [record, column] is 1 where a value was observed, 0 where it was imputed.
    """

    views: Tensor
    context: Tensor
    present: Tensor


def sizes_for(settings: ModelSettings, columns: int, context: int) -> Sizes:
    """The widths that suit the number of columns, where the settings leave them open."""
    shape = ARCHITECTURES[settings.architecture]
    return Sizes(
        columns=columns,
        context=context,
        latent=settings.latent or min(columns, 64),
        hidden=tuple(LANE * max(1, round(settings.hidden * factor / LANE)) for factor in shape),
        evidence=evidence_width(columns),
        views=len(settings.views),
        members=len(settings.views) * settings.members,
        discriminators=len(settings.views) * settings.discriminators,
        residual=settings.architecture == "residual",
    )


def train(
    data: TrainingSet,
    settings: ModelSettings,
    seed: int,
    device: torch.device,
    progress: Progress | None = None,
    callback: TrainingCallback | None = None,
) -> tuple[Gan, dict[str, float]]:
    """Fits the networks to `data`; returns their running average and the last losses.

    The discriminator is shown what the finished generator and the kept records say, so it comes
    last. `callback` follows its training, and may let it go on where another one was interrupted.
    Under `torchrun` every process takes a share of each batch.
    """
    distributed.announce(
        {"views": data.views, "context": data.context, "present": data.present}, settings, seed, device
    )
    state = _first_state(data, settings, seed, device)
    done = synchronised(state, callback.begin(state) if callback else 0, seed)
    given = (data.views, data.context, data.present, distributed.share(settings), seed, state)
    report = _Reporter(settings.steps, progress)
    if done < settings.autoencoder_steps:
        autoencoder = AutoencoderTraining(*given)
        for step in range(done, settings.autoencoder_steps):
            report(step + 1, autoencoder.step(step))
        autoencoder.finish()
    discriminator = DiscriminatorTraining(*given)
    losses: dict[str, Tensor] = {}
    for step in range(max(done, settings.autoencoder_steps), settings.steps):
        losses = discriminator.step(step)
        report(step + 1, losses)
        if callback is not None:
            callback.after(step + 1, state, losses)
    return state.average, {name: float(loss) for name, loss in losses.items()}


def _first_state(data: TrainingSet, settings: ModelSettings, seed: int, device: torch.device) -> TrainingState:
    """Untrained networks, and an optimiser for encoder with generator and one for the discriminator."""
    rng = torch.Generator().manual_seed(seed)
    sizes = sizes_for(settings, data.views.shape[2], data.context.shape[1])
    gan = Gan.random(sizes, rng, principal_axes(data.views, sizes)).map(lambda t: nn.Parameter(t.to(device)))
    average = gan.map(lambda t: t.detach().clone())
    autoencoder, discriminator = [*gan.encoder.tensors(), *gan.generator.tensors()], list(gan.discriminator.tensors())
    rate, betas = settings.learning_rate, (0.9, 0.99)
    optimisers: list[torch.optim.Adam] = [
        torch.optim.Adam(autoencoder, rate, betas=betas, foreach=True),
        torch.optim.AdamW(discriminator, rate, betas=betas, weight_decay=1e-3, foreach=True),
    ]
    return TrainingState(gan, average, optimisers, rng)


def follow() -> None:
    """Takes part in every training of the process that leads, until that one ends."""
    while (job := distributed.listen()) is not None:
        tensors, settings, seed, device = job
        train(TrainingSet(**tensors), settings, seed, device)


@dataclass(frozen=True, slots=True)
class _Reporter:
    steps: int
    progress: Progress | None

    def __call__(self, step: int, losses: dict[str, Tensor]) -> None:
        if self.progress is not None and (step % SILENT_STEPS == 0 or step == self.steps):
            name, loss = next(iter(losses.items()))
            self.progress(step, self.steps, f"{name.replace('_', ' ')} {float(loss):.4f}")
