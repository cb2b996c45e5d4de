"""Runs methods on sets, one (set, seed) at a time, and stores what came out."""

import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.metrics import average_precision_score, roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks.quality.data import Split, load_set, split
from benchmarks.quality.machine import machine
from benchmarks.quality.method import Method
from benchmarks.quality.store import Result, Store

__all__ = ["Job", "measure", "pending", "run"]


@dataclass(frozen=True, slots=True)
class Job:
    """A method to run on a set with a seed."""

    method: Method
    dataset: str
    path: Path
    seed: int


def pending(methods: Sequence[Method], sets: dict[str, Path], seeds: Iterable[int], store: Store) -> list[Job]:
    """What is not in the store yet: first seed first, so that an early stop leaves a whole table."""
    done = {method.key: store.done(method) for method in methods}
    return [
        Job(method, name, path, seed)
        for seed in seeds
        for method in methods
        for name, path in sets.items()
        if (name, seed) not in done[method.key]
    ]


def run(jobs: Sequence[Job], store: Store) -> int:
    """Run the jobs on one thread; returns how many failed. A failed one is named and left to a later run."""
    torch.set_num_threads(1)
    failed = 0
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    on_terminal = sys.stdout.isatty()
    with threadpool_limits(1), Progress(*columns, disable=not on_terminal) as progress:
        task = progress.add_task("", total=len(jobs))
        for number, job in enumerate(jobs, 1):
            label = f"{job.method.name} on {job.dataset}, seed {job.seed}"
            progress.update(task, description=label)
            try:
                results = measure(job)
            except Exception as error:  # noqa: BLE001 - a peer's failure on one set must not end an hour's run
                failed += 1
                progress.console.print(f"FAILED {label}: {type(error).__name__}: {error}")
                continue
            store.append(job.method, results)
            if not on_terminal:
                print(f"[{number}/{len(jobs)}] {label}: {_brief(results[0])}", flush=True)
            progress.advance(task)
    return failed


def measure(job: Job) -> list[Result]:
    """Fit on the training half, score the test half, compare with the labels; one result a row."""
    data = split(*load_set(job.path), job.seed)
    np.random.seed(job.seed)  # noqa: NPY002 - some peers draw from the global generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.process_time()
        score = job.method.fit(data.train, job.seed)
        fitted = time.process_time()
        columns = score(data.test)
        scored = time.process_time()
    return [
        _result(job, data, row, column, fitted - began, scored - fitted)
        for row, column in zip(job.method.rows, columns, strict=True)
    ]


def _result(job: Job, data: Split, row: str, scores: NDArray[np.floating[Any]], fit_s: float, score_s: float) -> Result:
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} scores of {row!r} are not finite")
    return Result(
        row=row,
        digest=job.method.digest,
        dataset=job.dataset,
        seed=job.seed,
        auroc=round(float(roc_auc_score(data.anomalous, scores)), 5),
        auprc=round(float(average_precision_score(data.anomalous, scores)), 5),
        fit_s=round(fit_s, 3),
        per_s=round(len(data.test) / max(score_s, 1e-4)),
        machine=machine(),
    )


def _brief(result: Result) -> str:
    return f"AUROC {result.auroc:.3f}, AUPRC {result.auprc:.3f}, fit {result.fit_s:.1f} s, {result.per_s:,} records/s"
