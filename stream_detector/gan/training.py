"""Training of the networks on normal records only: encoder and generator, then the discriminator.

Seeded by its own generators and free of global state: the same records, settings and seed give the
same bits on the same CPU and thread count.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stream_detector.gan import distributed
from stream_detector.gan.evidence import evidence_width
from stream_detector.gan.networks import ARCHITECTURES, LANE, Gan, Sizes
from stream_detector.gan.rebuilding import Rebuilding, principal_axes
from stream_detector.gan.refereeing import Lesson
from stream_detector.gan.settings import ModelSettings
from stream_detector.gan.state import TrainingState, Watch

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
    """Widths that suit the number of columns, where the settings leave them open."""
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
    watch: Watch | None = None,
) -> tuple[Gan, dict[str, float]]:
    """Fit the networks to `data`; returns their running average and the last losses.

    The discriminator is shown what the finished generator and the kept records say, so it comes
    last. `watch` follows its training, and may have it go on where another one was interrupted.
    Under `torchrun` every process takes a share of each batch.
    """
    distributed.brief({"views": data.views, "context": data.context, "present": data.present}, settings, seed, device)
    rng = torch.Generator().manual_seed(seed)
    sizes = sizes_for(settings, data.views.shape[2], data.context.shape[1])
    gan = Gan.random(sizes, rng, principal_axes(data.views, sizes)).map(lambda t: nn.Parameter(t.to(device)))
    average = gan.map(lambda t: t.detach().clone())
    builder = [*gan.encoder.tensors(), *gan.generator.tensors()]
    judge = list(gan.discriminator.tensors())
    optimisers: list[torch.optim.Adam] = [
        torch.optim.Adam(builder, settings.learning_rate, betas=(0.9, 0.99), foreach=True),
        torch.optim.AdamW(judge, settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3, foreach=True),
    ]
    state = TrainingState(gan, average, optimisers, rng)
    report = _Reporter(settings.steps, progress)
    done = distributed.align(state, watch.begin(state) if watch else 0, seed)
    portion = distributed.share(settings)
    if done < settings.building_steps:
        rebuilding = Rebuilding(data.views, data.context, data.present, portion, seed, state)
        for step in range(done, settings.building_steps):
            report(step + 1, rebuilding.step(step))
        rebuilding.finish()
    lesson = Lesson(data.views, data.context, data.present, portion, seed, state)
    losses: dict[str, Tensor] = {}
    for step in range(max(done, settings.building_steps), settings.steps):
        losses = lesson.step(step)
        report(step + 1, losses)
        if watch is not None:
            watch.after(step + 1, state, losses)
    return average, {name: float(loss) for name, loss in losses.items()}


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
