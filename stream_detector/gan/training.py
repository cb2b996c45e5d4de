"""Training of encoder, generator and discriminator together, on normal records only.

Seeded by its own generator and free of global state: the same records, settings and seed give the
same bits on the same CPU and thread count.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from stream_detector.gan.negatives import noised, swapped
from stream_detector.gan.networks import ARCHITECTURES, LANE, Gan, Sizes
from stream_detector.gan.settings import ModelSettings
from stream_detector.gan.state import TrainingState, Watch

__all__ = ["Progress", "TrainingSet", "sizes_for", "train"]

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
    width = settings.hidden or (64 if columns <= 128 else 128)
    return Sizes(
        columns=columns,
        context=context,
        latent=settings.latent or max(2, min(16, columns)),
        hidden=tuple(LANE * max(1, round(width * factor / LANE)) for factor in ARCHITECTURES[settings.architecture]),
        members=len(settings.views) * settings.members,
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

    Joint training as in ALAD and EGBAD (Zenati et al. 2018), with a reconstruction loss: the
    generator and encoder lower residual + prior and fool the discriminator, which learns to tell
    real from generated, swapped and noised records, and how much noise was added. `watch` follows
    the training, and may have it go on where another one was interrupted.
    """
    rng = torch.Generator().manual_seed(seed)
    sizes = sizes_for(settings, data.views.shape[2], data.context.shape[1])
    gan = Gan.random(sizes, rng).map(lambda t: t.to(device).requires_grad_())
    average = gan.map(lambda t: t.detach().clone())
    spread = data.views.std(1, keepdim=True).clamp_min(0.05).repeat_interleave(settings.members, 0)
    builder = [*gan.encoder.tensors(), *gan.generator.tensors()]
    judge = list(gan.discriminator.tensors())
    optimisers = [torch.optim.Adam(group, settings.learning_rate, betas=(0.5, 0.99)) for group in (builder, judge)]
    losses: dict[str, float] = {}
    state = TrainingState(gan, average, optimisers, rng)
    for step in range(watch.begin(state) if watch else 0, settings.steps):
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = settings.learning_rate * _decay(step, settings.steps)
        batch = _draw(data, settings, sizes, spread, rng)
        batch = _Batch(*(tensor.to(device) for tensor in batch.tensors()))
        judged = _judge_loss(gan, batch)
        _descend(optimisers[1], judge, judged)
        built = _builder_loss(gan, batch, settings)
        _descend(optimisers[0], builder, built)
        _average(average, gan, min(settings.averaging, (step + 1) / (step + 10)))
        if step % SILENT_STEPS == SILENT_STEPS - 1 or step == settings.steps - 1:
            losses = {"builder_loss": float(built.detach()), "judge_loss": float(judged.detach())}
            if progress is not None:
                progress(step + 1, settings.steps, f"loss {losses['builder_loss']:.4f}")
        if watch is not None:
            watch.after(step + 1, state, {"builder_loss": built.detach(), "judge_loss": judged.detach()})
    return average, losses


@dataclass(frozen=True, slots=True)
class _Batch:
    real: Tensor
    context: Tensor
    present: Tensor
    noised: Tensor
    reached: Tensor
    swapped: Tensor
    latent: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.real, self.context, self.present, self.noised, self.reached, self.swapped, self.latent


def _draw(data: TrainingSet, settings: ModelSettings, sizes: Sizes, spread: Tensor, rng: torch.Generator) -> _Batch:
    """A batch for every member, each with rows of its own, so that members differ."""
    rows = torch.randint(0, data.views.shape[1], (sizes.members, settings.batch), generator=rng)
    view = torch.arange(sizes.members).div(settings.members, rounding_mode="floor")
    real = data.views[view[:, None], rows]
    disturbed, reached = noised(real, spread, rng)
    latent = torch.randn(sizes.members, settings.batch, sizes.latent, generator=rng)
    return _Batch(real, data.context[rows], data.present[rows], disturbed, reached, swapped(real, rng), latent)


def _judge_loss(gan: Gan, batch: _Batch) -> Tensor:
    with torch.no_grad():
        generated = gan.generate(batch.latent, batch.context)
        rebuilt = gan.generate(gan.encode(batch.real, batch.context), batch.context)
        fakes = torch.cat((generated[:, ::2], rebuilt[:, ::4], batch.swapped[:, ::4]), 1)
        settings_ = torch.cat((batch.context[:, ::2], batch.context[:, ::4], batch.context[:, ::4]), 1)
    real, _ = gan.judge(batch.real, batch.context)
    fake, _ = gan.judge(fakes, settings_)
    noisy, _ = gan.judge(batch.noised, batch.context)
    verdict = softplus(real[..., 0]).mean() + softplus(-fake[..., 0]).mean()
    levels = binary_cross_entropy_with_logits(noisy[..., 1:], batch.reached)
    return verdict + 2.0 * levels


def _builder_loss(gan: Gan, batch: _Batch, settings: ModelSettings) -> Tensor:
    latent = gan.encode(batch.real, batch.context)
    residual = (gan.generate(latent, batch.context) - batch.real) * batch.present
    objective = residual.square().sum(2).mean() + settings.prior * latent.square().sum(2).mean()
    moments = latent.mean(1).square().mean() + (latent.var(1) - 1).square().mean()
    logits, _ = gan.judge(gan.generate(batch.latent, batch.context), batch.context)
    return (
        objective / batch.real.shape[2]
        + settings.prior * moments
        + settings.adversarial * softplus(logits[..., 0]).mean()
    )


def _descend(optimiser: torch.optim.Optimizer, group: list[Tensor], loss: Tensor) -> None:
    for tensor, gradient in zip(group, torch.autograd.grad(loss, group), strict=True):
        tensor.grad = gradient
    torch.nn.utils.clip_grad_norm_(group, 5.0)
    optimiser.step()


@torch.no_grad()
def _average(average: Gan, gan: Gan, decay: float) -> None:
    held = [tensor for _, tensor in average.tensors()]
    torch._foreach_lerp_(held, [tensor.detach() for _, tensor in gan.tensors()], 1 - decay)


def _decay(step: int, steps: int) -> float:
    """Cosine from 1 to 0 with a short linear start."""
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + cos(pi * step / steps))
