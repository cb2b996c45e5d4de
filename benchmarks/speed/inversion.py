"""c. Our search against AnoGAN's: the same networks, the same records, the same objective."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import search
from benchmarks.speed import data
from benchmarks.speed.part import Measured
from benchmarks.speed.searching import search_for_all
from stream_detector.model import DetectorModel
from stream_detector.scoring.compiled.layout import Inputs, Workspace
from stream_detector.scoring.inversion import invert, judged, start

__all__ = ["run"]

RECORDS = 1_024
SEARCHES = ((0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (8, 1), (16, 1), (16, 5), (32, 5))  # steps, starts
ROUNDS = 15
ADAM_ALONE = 3  # records that Adam searches for one by one, to be timed
CLOSE = {"but for rounding": 2e-6, "within 0.01 %": 1e-4, "within 1 %": 1e-2}
MOST = 0.99  # of the records, on which a search must find as much as Adam


class Cost(NamedTuple):
    """Processor seconds a record, of all together and of one alone."""

    batch: float
    alone: float


class Adam(NamedTuple):
    """AnoGAN's search: its cost, and the objectives [record] from random latents and from the prior's mean."""

    cost: Cost
    random: NDArray[np.float64]
    anchored: NDArray[np.float64]


def run(quick: bool) -> Measured:
    """Time a record and objectives of searches of several lengths beside 500 Adam steps."""
    torch.set_num_threads(1)
    model, count = data.model(16), RECORDS // 4 if quick else RECORDS
    records = data.matrix(16, count, seed=7)
    problem = search._problem(model, records)  # noqa: SLF001 - the ablation's, so that both ask the same
    adam = _adams(model, problem)
    lines, figures = [], {"faster_alone_no_higher": 0.0, "faster_batch_within_1_percent": 0.0}
    for steps, starts in SEARCHES:
        cost = Cost(_seconds(model, records, steps, starts), _seconds(model, records[:1], steps, starts))
        shares = _shares(_objective(model, problem, steps, starts), adam)
        faster, alone = adam.cost.batch / cost.batch, adam.cost.alone / cost.alone
        lines.append(_line(steps, starts, cost, adam.cost, shares))
        if min(shares["random but for rounding"], shares["anchored but for rounding"]) >= MOST:
            figures["faster_alone_no_higher"] = max(figures["faster_alone_no_higher"], alone)
        if min(shares["random within 1 %"], shares["anchored within 1 %"]) >= MOST:
            figures["faster_batch_within_1_percent"] = max(figures["faster_batch_within_1_percent"], faster)
        figures |= {f"faster_{steps}x{starts}": faster, f"faster_alone_{steps}x{starts}": alone}
    blank = [""] * (1 + 2 * len(CLOSE))
    lines.append((f"{search.ADAM_STEPS} Adam steps", f"{1e6 * adam.cost.batch:.2f}", "1", "1", *blank))
    settings = model.config.search
    note = (
        f"Every one of {count:,} records is searched for, without the screen that spares most of them; processor time of one "
        "thread. Ours is the nearest records, the encoder's start and the steps from every start; Adam is given the nearest "
        "records. Both are timed with all records in one batch, and with one record alone, which is how AnoGAN takes them; the "
        "third ratio is ours in a batch, as a worker does it, to Adam's alone, as AnoGAN does.\n\n"
        f"The default is {settings.steps} steps from {settings.starts} start; `inversion.steps` and `inversion.starts` set others. "
        "Shares are of records whose objective is no higher than Adam's from a random latent, as AnoGAN starts, and from the "
        "prior's mean, which is kind to it. Rounding is two millionths of an objective, in single precision."
    )
    head = ("search", "µs a record", "in a batch", "alone", "batch to alone")
    return Measured("Inversion", note, (*head, *_shares(adam.random, adam)), tuple(lines), figures)


def _line(steps: int, starts: int, cost: Cost, adam: Cost, shares: dict[str, float]) -> tuple[str, ...]:
    name = f"{steps} step{'s' * (steps != 1)} from {starts} start{'s' * (starts != 1)}"
    ratios = adam.batch / cost.batch, adam.alone / cost.alone, adam.alone / cost.batch
    shown = (f"{ratio:,.0f}" for ratio in ratios), (f"{share:.1%}" for share in shares.values())
    return (name, f"{1e6 * cost.batch:.2f}", *shown[0], *shown[1])


def _shares(objective: NDArray[np.float64], adam: Adam) -> dict[str, float]:
    """Shares of records on which an objective is no higher than Adam's, by its start and by what is allowed for."""
    others = {"random": adam.random, "anchored": adam.anchored}
    return {
        f"{begin} {kind}": float((objective <= other * (1 + slack)).mean())
        for begin, other in others.items()
        for kind, slack in CLOSE.items()
    }


def _adams(model: DetectorModel, problem: search.Problem) -> Adam:
    drawn = torch.randn(problem.anchor.shape, generator=torch.Generator().manual_seed(0))
    batch, random = _adam(model, problem, drawn)
    alone = min(
        _adam(model, problem.map(lambda tensor, at=at: tensor[:, at : at + 1]), drawn[:, at : at + 1])[0]
        for at in range(ADAM_ALONE)
    )
    return Adam(Cost(batch / len(random), alone), random, _adam(model, problem, problem.anchor)[1])


def _adam(model: DetectorModel, problem: search.Problem, begin: torch.Tensor) -> tuple[float, NDArray[np.float64]]:
    """Processor seconds of AnoGAN's search from `begin` [member, record, latent], and the objective it ends at."""
    generator = model.scorer.gan.map(torch.clone)  # tensors made for inference record no gradient
    robust_scale, latent = model.scorer.robust_scale(), begin.clone().requires_grad_()
    adam = torch.optim.Adam([latent], search.ADAM_RATE, fused=True)
    began = time.process_time()
    for _ in range(search.ADAM_STEPS):
        adam.zero_grad()
        judged(generator, problem, robust_scale, latent).objective.sum().backward()
        adam.step()
    seconds = time.process_time() - began
    return seconds, judged(generator, problem, robust_scale, latent).objective.detach().numpy().astype(np.float64).sum(
        0
    )


def _objective(model: DetectorModel, problem: search.Problem, steps: int, starts: int) -> NDArray[np.float64]:
    """The objective [record] after the search, summed over the members."""
    gan, robust_scale = model.scorer.gan, model.scorer.robust_scale()
    found = invert(gan, problem, robust_scale, start(gan, problem, robust_scale)[0], steps, starts)
    return found.objective.numpy().astype(np.float64).sum(0)


def _seconds(model: DetectorModel, records: NDArray[np.float32], steps: int, starts: int) -> float:
    """Least processor seconds a record of the kernel's search, every record searched for."""
    kernel, normalised = model.scorer.kernel, model.scorer.normaliser(records)
    inputs = Inputs.of(normalised, np.full(len(records), -1))
    widths = normalised.views.shape[2], normalised.context.shape[1]
    space = Workspace.of(kernel.autoencoder, kernel.kept, kernel.discriminators, *widths)
    found = np.zeros((2, len(records)))
    return _least(lambda: search_for_all(kernel.autoencoder, kernel.kept, inputs, space, steps, starts, found)) / len(
        records
    )


def _least(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)
