"""c. Our search against AnoGAN's: the same networks, the same records, the same objective."""

import time
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import search
from benchmarks.speed import data
from benchmarks.speed.part import Measured
from stream_detector.model import DetectorModel
from stream_detector.scoring.inversion import judged, refine, start
from stream_detector.scoring.memory import NEAR

__all__ = ["run"]

RECORDS = 1_024
STEPS = (0, 1, 2, 4, 8, 16)
THOROUGH, STARTS = 16, 2 + NEAR  # steps, and starts, of a search that is to miss no lower objective
ROUNDS = 15
CLOSE = {"exactly": 0.0, "but for rounding": 2e-6, "within 0.01 %": 1e-4, "within 1 %": 1e-2}


class Cost(NamedTuple):
    """Processor seconds of all records together, and of one alone."""

    batch: float
    alone: float

    def over(self, other: "Cost") -> tuple[float, float]:
        """How many times the other's this is."""
        return self.batch / other.batch, self.alone / other.alone


class Adam(NamedTuple):
    """AnoGAN's search: its cost, and the objectives [record] from the prior's mean and from random latents."""

    cost: Cost
    objective: NDArray[np.float64]
    random: NDArray[np.float64]


def run(quick: bool) -> Measured:
    """Time a record and objectives of searches of several lengths beside 500 Adam steps."""
    torch.set_num_threads(1)
    model, count = data.model(16), RECORDS // 4 if quick else RECORDS
    records = data.matrix(16, count, seed=7)
    problem = search._problem(model, records)  # noqa: SLF001 - the ablation's, so that both ask the same
    adam = _adams(model, problem)
    lines, figures = [], {"speedup_at_99_percent": 0.0}
    for steps in STEPS:
        cost = Cost(_seconds(model, records, steps), _seconds(model, records[:1], steps))
        line, lower = _compared(_name(steps), cost, _objective(model, problem, steps), adam)
        lines.append(line)
        faster, faster_alone = adam.cost.over(cost)
        if lower["within 1 %"] >= 0.99:
            figures["speedup_at_99_percent"] = max(figures["speedup_at_99_percent"], faster)
        figures |= {
            f"faster_{steps}": faster,
            f"faster_alone_{steps}": faster_alone,
            f"near_{steps}": lower["within 1 %"],
        }
    starts = np.repeat(records[:1], STARTS, 0)
    cost = Cost(STARTS * _seconds(model, records, THOROUGH), _seconds(model, starts, THOROUGH))
    line, lower = _compared(
        f"{THOROUGH} steps from {STARTS} starts", cost, _least_objective(model, problem, records), adam
    )
    lines.append(line)
    faster, faster_alone = adam.cost.over(cost)
    figures |= {
        "faster_thorough": faster,
        "faster_alone_thorough": faster_alone,
        "lower_thorough": lower["but for rounding"],
    }
    blank = [""] * (len(CLOSE) + 1)
    lines.append((f"{search.ADAM_STEPS} Adam steps", f"{1e6 * adam.cost.batch / count:.2f}", "1", "1", *blank))
    note = (
        f"Every one of {count:,} records is searched for, without the screen that spares most of them; processor time of one "
        "thread. Ours is the whole score of the kernel, with nearest records, evidence and discriminators, which the search "
        "cannot do without; Adam's is the search alone, all records in one batch, or one record alone, which is how AnoGAN "
        f"takes them. The default is {model.config.search.steps} steps from one start; the last search is none of the product's and "
        f"costs what {STARTS} records do (from the encoder's latent, those of the nearest kept records, and their mean): it shows how far the method goes. Shares are of records whose objective is no higher "
        "than Adam's from the prior's mean, which is kind to it; the last column holds it against Adam from a random latent, "
        "as AnoGAN starts, within 0.01 %. Rounding is two millionths of an objective in single precision."
    )
    head = ("search", "µs a record", "times as fast", "a record alone", *CLOSE, "random start")
    return Measured("Inversion", note, head, tuple(lines), figures)


def _adams(model: DetectorModel, problem: search.Problem) -> Adam:
    batch, objective = _adam(model, problem, problem.anchor)
    drawn = torch.randn(problem.anchor.shape, generator=torch.Generator().manual_seed(0))
    alone, _ = _adam(model, problem.map(lambda tensor: tensor[:, :1]), problem.anchor[:, :1])
    return Adam(Cost(batch, alone), objective, _adam(model, problem, drawn)[1])


def _compared(
    name: str, cost: Cost, objective: NDArray[np.float64], adam: Adam
) -> tuple[tuple[str, ...], dict[str, float]]:
    """A search's row, and the shares of records on which its objective is no higher than Adam's."""
    lower = {kind: float((objective <= adam.objective * (1 + slack)).mean()) for kind, slack in CLOSE.items()}
    by_chance = float((objective <= adam.random * (1 + CLOSE["within 0.01 %"])).mean())
    ratios = [f"{ratio:,.0f}" for ratio in adam.cost.over(cost)]
    shares = [f"{share:.1%}" for share in (*lower.values(), by_chance)]
    return (name, f"{1e6 * cost.batch / len(objective):.2f}", *ratios, *shares), lower


def _least_objective(
    model: DetectorModel, problem: search.Problem, records: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The lowest objective [record] from all that a record could start from: the encoder's latent, those of the
    nearest kept records, and their mean.
    """
    scorer = model.scorer
    gan, reach, normalised = scorer.gan, scorer.reach(), scorer.normaliser(records)
    nearest = scorer.memory.nearest(torch.from_numpy(normalised.views), torch.from_numpy(normalised.context))
    latents = scorer.memory.latents[:, nearest[0]]  # [member, record, NEAR, latent], of the one view there is
    others = (problem.anchor, *(latents[:, :, place].contiguous() for place in range(NEAR)))
    begun = [start(gan, problem, reach)[0], *(judged(gan, problem, reach, latent) for latent in others)]
    found = [refine(gan, problem, reach, each, THOROUGH) for each in begun]
    best = reduce(lambda one, other: one.better(other)[0], found)
    return best.objective.numpy().astype(np.float64).sum(0)


def _name(steps: int) -> str:
    return f"{steps} step{'s' * (steps > 1)}" if steps else "the encoder's start"


def _objective(model: DetectorModel, problem: search.Problem, steps: int) -> NDArray[np.float64]:
    """The objective [record] after the search, summed over the members."""
    gan, reach = model.scorer.gan, model.scorer.reach()
    begun, _ = start(gan, problem, reach)
    found = refine(gan, problem, reach, begun, steps) if steps else begun
    return found.objective.numpy().astype(np.float64).sum(0)


def _adam(model: DetectorModel, problem: search.Problem, begin: torch.Tensor) -> tuple[float, NDArray[np.float64]]:
    """Processor seconds of AnoGAN's search from `begin` [member, record, latent], and the objective it ends at."""
    generator = model.scorer.gan.map(torch.clone)  # tensors made for inference record no gradient
    reach, latent = model.scorer.reach(), begin.clone().requires_grad_()
    adam = torch.optim.Adam([latent], search.ADAM_RATE, fused=True)
    began = time.process_time()
    for _ in range(search.ADAM_STEPS):
        adam.zero_grad()
        judged(generator, problem, reach, latent).objective.sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    seconds = time.process_time() - began
    return seconds, judged(generator, problem, reach, latent).objective.detach().numpy().astype(np.float64).sum(0)


def _seconds(model: DetectorModel, records: NDArray[np.float32], steps: int) -> float:
    """Least processor seconds of the kernel, every record searched for."""
    scorer = model.scorer
    networks, normalised = scorer._compiled, scorer.normaliser(records)  # noqa: SLF001
    assert networks is not None
    own, everyone = np.full(len(records), -1), np.full(1, -np.inf)
    return _least(lambda: networks(normalised, own, everyone, steps))


def _least(call: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)
