"""c. Our search against AnoGAN's: the same networks, the same records, the same objective."""

import time

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import search
from benchmarks.speed import data
from benchmarks.speed.part import Measured

__all__ = ["run"]

RECORDS = 1_024
CLOSE = 1e-4  # relative difference of objectives that counts as equal


def run(quick: bool) -> Measured:
    """Time a record and objectives of searches of several lengths beside 500 Adam steps."""
    model = data.model(16)
    records = data.matrix(16, RECORDS // 4 if quick else RECORDS, seed=7)
    problem = search._problem(model, records)  # noqa: SLF001 - the ablation's, so that both ask the same
    *ours, _free, adam = search._searches(model)  # noqa: SLF001
    slow, reference = _timed(adam, problem, 1)
    lines, enough = [], 0.0
    for steps, each in zip(search.STEPS, ours, strict=True):
        quick_time, objective = _timed(each, problem, 20)
        lower = float((objective <= reference * (1 + CLOSE)).mean())
        faster = slow / quick_time
        enough = max(enough, faster) if lower >= 0.99 else enough
        cells = (f"{1e6 * quick_time / len(records):.2f}", f"{faster:,.0f}", f"{lower:.1%}", f"{objective.mean():.4f}")
        lines.append((f"{steps} steps" if steps else "the encoder's start", *cells))
    cells = (f"{1e6 * slow / len(records):.2f}", "1", "", f"{reference.mean():.4f}")
    lines.append((f"{search.ADAM_STEPS} Adam steps", *cells))
    default = model.config.search.steps
    at_default = next((line for line in lines if line[0] == f"{default} steps"), lines[0])
    note = (
        f"Every one of {len(records):,} records is searched for, without the screen that spares most of them; processor time "
        f"of one thread. The default is {default} steps. Adam starts from the prior's mean, which is kinder to it than a "
        "random latent. 'No higher' allows one part in 10,000."
    )
    figures = {
        "speedup_at_99_percent": enough,
        "default_speedup": float(at_default[2].replace(",", "")),
        "default_no_higher": at_default[3],
    }
    head = ("search", "µs a record", "times as fast", "objective no higher", "mean objective")
    return Measured("Inversion", note, head, tuple(lines), figures)


def _timed(each: search.Search, problem: search.Problem, rounds: int) -> tuple[float, NDArray[np.float64]]:
    """Least processor seconds, and the objective [record], summed over the members."""
    torch.set_num_threads(1)
    times = []
    for _ in range(rounds):
        start = time.process_time()
        found = each(problem)
        times.append(time.process_time() - start)
    objective: NDArray[np.float64] = found.objective.detach().numpy().astype(np.float64).sum(0)
    return min(times), objective
