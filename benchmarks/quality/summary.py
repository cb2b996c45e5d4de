"""From single results to what a reader compares: means over seeds and sets, ranks, who is best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, studentized_range

from benchmarks.quality.method import Method
from benchmarks.quality.store import Result, Store

__all__ = ["Measure", "Ranks", "Row", "best", "critical_difference", "difference", "ranks", "summarise"]

Measure = Literal["auroc", "auprc"]


@dataclass(frozen=True)
class Row:
    """One line of the tables: a method, or a variant of one, with its results."""

    name: str
    method: Method
    results: tuple[Result, ...]

    @property
    def is_variant(self) -> bool:
        """Whether it shares its fit with the method proper, and takes no part in the ranks."""
        return self.name != self.method.name

    @property
    def sets(self) -> set[str]:
        """The sets that it was run on."""
        return {result.dataset for result in self.results}

    def on(self, dataset: str, measure: Measure) -> float:
        """Mean over the seeds; NaN where it was not run."""
        return _mean([getattr(result, measure) for result in self.results if result.dataset == dataset])

    def mean(self, measure: Measure) -> float:
        """Mean over its sets of the means over the seeds."""
        return _mean([self.on(dataset, measure) for dataset in self.sets])

    def deviation(self, measure: Measure) -> float:
        """Standard deviation between seeds of the mean over the sets; NaN with one seed."""
        seeds = sorted({result.seed for result in self.results})
        means = [_mean([getattr(r, measure) for r in self.results if r.seed == seed]) for seed in seeds]
        return float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")


@dataclass(frozen=True)
class Ranks:
    """Mean rank of each row over the sets; 1 is best, equal results share a rank."""

    names: tuple[str, ...]
    means: NDArray[np.float64]
    sets: int


def summarise(methods: Sequence[Method], store: Store) -> list[Row]:
    """The rows with results, best mean AUROC first."""
    rows = []
    for method in methods:
        results = store.read(method)
        for name in method.rows:
            own = tuple(result for result in results if result.row == name)
            if own:
                rows.append(Row(name, method, own))
    return sorted(rows, key=lambda row: -row.mean("auroc"))


def ranks(rows: Sequence[Row], measure: Measure) -> Ranks:
    """Ranks among the methods proper that were run on every set."""
    sets = sorted(set().union(*(row.sets for row in rows)))
    whole = [row for row in rows if not row.is_variant and row.sets == set(sets)]
    if not whole:
        return Ranks((), np.empty(0), len(sets))
    table = np.array([[row.on(dataset, measure) for row in whole] for dataset in sets])
    return Ranks(tuple(row.name for row in whole), rankdata(-table, axis=1).mean(0), len(sets))


def critical_difference(methods: int, sets: int) -> float:
    """Mean ranks further apart than this differ at the 5 % level (Nemenyi's test; Demsar, JMLR 2006)."""
    quantile = studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * sets)))


def best(rows: Sequence[Row], measure: Measure) -> Row | None:
    """The row with the highest mean among those that were run on the most sets."""
    most = max((len(row.sets) for row in rows), default=0)
    return max((row for row in rows if len(row.sets) == most), key=lambda row: row.mean(measure), default=None)


def difference(row: Row, reference: Row, measure: Measure) -> tuple[float, float, int]:
    """How much higher than the reference: mean over common sets, its standard error, number of sets.

    Only pairs of the same set and seed, hence the same split, are compared.
    """
    both = [{(r.dataset, r.seed): getattr(r, measure) for r in each.results} for each in (row, reference)]
    common = sorted(both[0].keys() & both[1].keys())
    by_set: dict[str, list[float]] = {}
    for pair in common:
        by_set.setdefault(pair[0], []).append(both[0][pair] - both[1][pair])
    means = [_mean(values) for values in by_set.values()]
    error = float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    return _mean(means), error, len(means)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
