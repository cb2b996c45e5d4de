"""`python -m benchmarks.fewrows`: how often models of few records flag new normal ones and far outliers.

Default fits and the rate of 1 in 1,000, a line of `results/fewrows.md` each. Named sets
are run alone, of any kind and size: `python -m benchmarks.fewrows normal-40x3 t3-60x3`; nothing is written then.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import stream_detector

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]

RESULT = Path(__file__).parent / "results" / "fewrows.md"
SEEDS, NEW, FAR, RATE = 3, 20_000, 1_000, 0.001
HEAD = """# Few records
Share of records beyond `model.threshold(0.001)`, in per cent, by `python -m benchmarks.fewrows`.
Outliers are new normal records with one feature, or all, so many standard deviations off, up or down.

| records | seed | new | one, 10 | one, 30 | all, 10 | all, 30 |
|---|--:|--:|--:|--:|--:|--:|
"""


def correlated(rng: np.random.Generator, rows: int, features: int) -> Floats:
    """Two causes, and a little noise: float64 [row, feature]."""
    mixing = np.random.default_rng(7).normal(size=(2, features))
    return rng.normal(size=(rows, 2)) @ mixing + 0.1 * rng.normal(size=(rows, features))


def mixed(rng: np.random.Generator, rows: int, features: int) -> Floats:
    """A rare flag, a code of five, the rest normal: float64 [row, feature]."""
    table = rng.normal(size=(rows, features))
    table[:, 0], table[:, 1] = rng.random(rows) < 0.1, rng.integers(0, 5, rows)
    return table


DRAWS: dict[str, Draw] = {
    "normal": lambda rng, rows, features: rng.normal(size=(rows, features)),
    "t3": lambda rng, rows, features: rng.standard_t(3, size=(rows, features)),
    "counts": lambda rng, rows, features: rng.poisson(3, size=(rows, features)).astype(np.float64),
    "correlated": correlated,
    "mixed": mixed,
}
SETS = ("normal-40x3", "normal-60x3", "normal-100x5", "normal-100x30", "normal-200x3", "normal-200x30")


def measured(name: str, seed: int) -> list[float]:
    """Flagged shares: of new normal records, and of four sorts of outliers."""
    kind, shape = name.split("-")
    rows, features = map(int, shape.split("x"))
    rng = np.random.default_rng((seed, rows, features))
    records = DRAWS[kind](rng, rows, features)
    model = stream_detector.fit(records, seed=seed, device="cpu")
    new = DRAWS[kind](rng, NEW, features)
    asked = [new, *_outliers(rng, new[:FAR], records.std(axis=0))]
    return [float(model.score(part).flagged(RATE).mean()) for part in asked]


def _outliers(rng: np.random.Generator, new: Floats, deviation: Floats) -> Iterator[Floats]:
    shift = deviation * rng.choice([-1, 1], new.shape)
    one = rng.integers(new.shape[1], size=len(new))[:, None] == np.arange(new.shape[1])
    for features in (one, True):
        for size in (10, 30):
            yield new + size * shift * features


def main(names: list[str]) -> int:
    """Measure all sets, or those named, and print a line for each as it comes."""
    table = HEAD
    print(HEAD, end="")
    for name in names or SETS:
        for seed in range(SEEDS):
            new, *far = (100 * share for share in measured(name, seed))
            line = f"| {name} | {seed} | {new:.3f} | {' | '.join(f'{share:.0f}' for share in far)} |"
            print(line, flush=True)
            table += f"{line}\n"
    if not names:
        RESULT.write_text(table, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
