"""The second part of a training: the discriminator learns to tell how far a record was moved.

It does not tell real records from generated ones, which it would forget as the generator improves. It tells the
size of a displacement, from none to 1.6 standard deviations in ordered steps. Its input is the `evidence`: what
the kept records and the generator say about the record. A negative never finds the record it was
made from among the kept ones, just as a new record is not among them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from stream_detector.gan.evidence import evidence, gauged, squared_distances
from stream_detector.gan.memory import Memory, capacity, selected
from stream_detector.gan.networks import Gan, evidence_width
from stream_detector.gan.noise import DISPLACEMENTS, blurred, column_spread, corrupted, displacement
from stream_detector.gan.optimisation import Descent, TrainingState, average_into, decay
from stream_detector.gan.settings import ModelSettings

__all__ = ["DiscriminatorTraining"]

CLEAN = 8_000  # most records shown as they are
NEGATIVES = 30_000  # made once; the same ones are shown many times
VALUES = 32_000_000  # numbers that the evidence of one view may take, which bounds memory
GENERATED = 0.1  # share of the negatives that are generated records
CLEAN_SHARE = 0.25  # of a batch
BLOCK = 2048  # rows in a network call


class DiscriminatorTraining:
    """Trains `state.gan.discriminator` and its average; sets both gauges first."""

    def __init__(
        self,
        views: Tensor,
        context: Tensor,
        present: Tensor,
        settings: ModelSettings,
        seed: int,
        state: TrainingState,
    ) -> None:
        self._settings, self._state = settings, state
        self._descend = Descent(state.optimisers[1])
        # Its own generator: a resumed training makes the same negatives.
        rng = torch.Generator().manual_seed(seed + 1)
        kept = capacity(settings.memory, views.shape[1], *views.shape[::2])
        device = state.gan.encoder.weights[0].device
        chosen = selected(views, context, kept)
        memory = Memory.of(state.average, views[:, chosen].to(device), context[chosen].to(device))
        own = torch.full((views.shape[1],), -1)
        own[chosen] = torch.arange(kept)
        self._pool = _Pool(views, context, present, memory, own, state.average, rng)
        for gauge in (state.gan.gauge, state.average.gauge):
            for part in ("spread", "floor", "centre"):
                getattr(gauge, part).data.copy_(getattr(self._pool.gauge, part))

    def step(self, step: int) -> dict[str, Tensor]:
        """Takes one step; returns the loss."""
        settings, gan = self._settings, self._state.gan
        done, steps = step - settings.autoencoder_steps, settings.steps - settings.autoencoder_steps
        inputs, context, reached = self._draw()

        def losses() -> tuple[Tensor]:
            return (binary_cross_entropy_with_logits(gan.discriminate(inputs, context)[0], reached),)

        (loss,) = self._descend(losses, settings.learning_rate * decay(done, steps))
        average_into(self._state.average.discriminator, gan.discriminator, settings.averaging, done)
        return {"judge_loss": loss}

    def _draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draws a batch for every discriminator: a quarter clean records, the rest negatives."""
        pool, each, rng = self._pool, self._settings.discriminators, self._state.rng
        members, batch = len(pool.inputs) * each, self._settings.batch
        clean = int(batch * CLEAN_SHARE)
        rows = torch.cat(
            (
                torch.randint(pool.clean, (members, clean), generator=rng),
                torch.randint(pool.clean, pool.inputs.shape[1], (members, batch - clean), generator=rng),
            ),
            1,
        )
        view = torch.arange(members).div(each, rounding_mode="floor")[:, None]
        return pool.inputs[view, rows], pool.context[rows], pool.reached[view, rows]


class _Pool:
    """Evidence `inputs` [view, row, input] of `clean` normal records and then of negatives, their
    `context`, which displacements they `reached` [view, row, level], and the training `rows` [row]
    they come from.
    """

    def __init__(
        self,
        views: Tensor,
        context: Tensor,
        present: Tensor,
        memory: Memory,
        own: Tensor,
        gan: Gan,
        rng: torch.Generator,
    ) -> None:
        count, columns = views.shape[1:]
        most = max(512, VALUES // evidence_width(columns))
        base = torch.randperm(count, generator=rng)[: min(CLEAN, most // 4)]
        negatives = min(NEGATIVES, most)
        self.clean = len(base)
        self.rows = torch.cat((base, base[torch.randint(len(base), (negatives,), generator=rng)]))
        device = memory.records.device
        spread = column_spread(views)
        self.context, shown = context[self.rows].to(device), present[self.rows].unsqueeze(0).to(device)
        original, moved = self._moved(views, spread, rng)
        original, moved, spread = original.to(device), moved.to(device), spread.to(device)
        self._generate(original, moved, gan, rng)
        self.reached = _reached(moved, original, spread, shown)
        own = own[self.rows].to(device)
        settings = self.context
        nearest = _blockwise(lambda rows: memory.nearest(moved[:, rows], settings[rows], own[rows]), len(own))
        neighbours = memory.neighbours(nearest[:, : self.clean])
        self.gauge = gauged(spread, squared_distances(moved[:, : self.clean], neighbours))

        def inputs(rows: slice) -> Tensor:
            residual = _reconstruction_residual(gan, moved[:, rows], settings[rows], shown[:, rows])
            return evidence(self.gauge, moved[:, rows], memory.neighbours(nearest[:, rows]), residual, shown[:, rows])

        self.inputs = _blockwise(inputs, len(own))

    def _moved(self, views: Tensor, spread: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Copies the rows [view, row, column], and moves all but the clean ones in the second copy."""
        original = views[:, self.rows]
        negatives = len(self.rows) - self.clean
        moved = original.clone()
        for view, records in enumerate(original):
            others = views[view, torch.randint(views.shape[1], (negatives,), generator=rng)]
            moved[view, self.clean :] = corrupted(records[self.clean :], others, spread[view], rng)
        return original, moved

    @torch.no_grad()
    def _generate(self, original: Tensor, moved: Tensor, gan: Gan, rng: torch.Generator) -> None:
        """Puts generated records in the place of some of the negatives."""
        negatives = len(self.rows) - self.clean
        made = slice(self.clean, self.clean + int(negatives * GENERATED))
        per_view = len(gan.encoder.weights[0]) // len(moved)
        members = original[:, made].repeat_interleave(per_view, 0)
        context = self.context[made].expand(len(members), -1, -1)
        latents = blurred(gan.encode(members, context), rng)
        moved[:, made] = gan.generate(latents, context)[::per_view]


@torch.no_grad()
def _reconstruction_residual(gan: Gan, records: Tensor, context: Tensor, present: Tensor) -> Tensor:
    """The residual [view, row, column] that encoder and generator leave of records, mean over the members."""
    per_view = len(gan.encoder.weights[0]) // len(records)
    members = records.repeat_interleave(per_view, 0)
    surroundings = context.expand(len(members), -1, -1)
    reconstructed = gan.generate(gan.encode(members, surroundings), surroundings)
    return (records - reconstructed.view(len(records), per_view, *records.shape[1:]).mean(1)) * present


def _reached(moved: Tensor, original: Tensor, spread: Tensor, shown: Tensor) -> Tensor:
    """Flags of the displacements that are exceeded [view, row, level], 0 or 1; what is not shown does not count."""
    size = displacement(moved * shown, original * shown, spread)
    return (size.unsqueeze(2) > torch.tensor(DISPLACEMENTS, device=size.device, dtype=torch.float32)).float()


def _blockwise(made: Callable[[slice], Tensor], count: int) -> Tensor:
    return torch.cat([made(slice(first, first + BLOCK)) for first in range(0, count, BLOCK)], 1)
