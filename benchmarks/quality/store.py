"""Results on disk: one JSON-lines file a method, one line a run; what makes the benchmark resumable."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.quality.method import Method
from stream_detector.errors import DataError

__all__ = ["Result", "Store"]


@dataclass(frozen=True, slots=True)
class Result:
    """One row of one method on one set with one seed.

    `auroc` and `auprc` in [0, 1]; `fit_s` processor seconds; `per_s` records scored a processor
    second; `machine` what it ran on; `digest` the method's identity at the time.
    """

    row: str
    digest: str
    dataset: str
    seed: int
    auroc: float
    auprc: float
    fit_s: float
    per_s: float
    machine: str


class Store:
    """The results in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, method: Method) -> list[Result]:
        """Results of this identity of the method; raises `DataError` on a line that is none."""
        path = self._path(method)
        results = [_result(line, path, number) for number, line in enumerate(self._lines(method), 1)]
        digest = method.digest  # reads all its sources
        return [result for result in results if result.digest == digest]

    def done(self, method: Method) -> set[tuple[str, int]]:
        """The (set, seed) pairs that need no run: every row of the method is there."""
        found: dict[tuple[str, int], set[str]] = {}
        for result in self.read(method):
            found.setdefault((result.dataset, result.seed), set()).add(result.row)
        return {pair for pair, rows in found.items() if rows >= set(method.rows)}

    def append(self, method: Method, results: Iterable[Result]) -> None:
        """Add the results of a run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._path(method).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(result)) + "\n" for result in results)

    def prune(self, method: Method) -> None:
        """Drop results of the method's former identities; only for whoever has just run it."""
        current = self.read(method)
        if len(current) < len(self._lines(method)):
            self._path(method).write_text("", encoding="utf-8")
            self.append(method, current)

    def _lines(self, method: Method) -> list[str]:
        path = self._path(method)
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def _path(self, method: Method) -> Path:
        return self.folder / f"{method.key}.jsonl"


def _result(line: str, path: Path, number: int) -> Result:
    try:
        return Result(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}, line {number}: not a result ({error}); delete the line to run it again") from error
