"""The command of a benchmark: run what is missing, then write the tables and the plot.

Results are kept as they come; a killed run goes on where it was. A method whose settings or code
changed is run again, the others are not.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.quality.data import find_sets
from benchmarks.quality.measure import pending, run
from benchmarks.quality.method import Method
from benchmarks.quality.report import write
from benchmarks.quality.store import Store
from stream_detector.errors import ConfigError, StreamDetectorError

__all__ = ["benchmark"]

T = TypeVar("T")

RESULTS = Path(__file__).parents[1] / "results"
SEEDS = 3
QUICK_SETS = "wdbc,ionosphere,vowels,cardio,letter"


def benchmark(stem: str, title: str, methods: Sequence[Method], arguments: Sequence[str]) -> int:
    """Run `methods`; results are `benchmarks/results/<stem>*`. Returns the exit code: 1 when a run failed."""
    options = _options(title, arguments)
    try:
        sets = _chosen("set", find_sets(), options.sets)
        picked = _chosen("method", {method.key: method for method in methods}, options.methods)
    except StreamDetectorError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    store = Store(options.results / stem)
    jobs = [] if options.report else pending(list(picked.values()), sets, range(options.seeds), store)
    failed = run(jobs, store) if jobs else 0
    for key in {job.method.key for job in jobs}:
        store.prune(picked[key])
    print(write(title, methods, store, options.results / stem))
    return 1 if failed else 0


def _options(title: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"{title}: run what is missing, write the tables.")
    parser.add_argument("--methods", help="keys, comma-separated; default: all")
    parser.add_argument("--sets", help="names, comma-separated; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds 0 to N - 1 (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="five small sets, one seed")
    parser.add_argument("--report", action="store_true", help="run nothing, write the tables from what is there")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (default %(default)s)")
    options = parser.parse_args(arguments)
    if options.quick:
        options.sets, options.seeds = options.sets or QUICK_SETS, 1
    return options


def _chosen(kind: str, known: dict[str, T], names: str | None) -> dict[str, T]:
    if names is None:
        return known
    wanted = names.split(",")
    for name in wanted:
        if name not in known:
            raise ConfigError(f"no {kind} {name!r}; there are {', '.join(known)}")
    return {name: known[name] for name in wanted}
