"""What a method is to the benchmark, and what tells one version of it from another."""

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.data import PROTOCOL, Matrix

__all__ = ["Fit", "Method", "Score"]

Score = Callable[[Matrix], Sequence[NDArray[np.floating[Any]]]]
Fit = Callable[[Matrix, int], Score]


@dataclass(frozen=True)
class Method:
    """One entry of the tables, or several that share a fit.

    `fit(train, seed)` gives a function from records to one array of scores a row, higher = more
    anomalous. `settings` and the code in `sources` are the method's identity: results of another
    identity are not taken from the cache. Rows after the first are its variants, which take no
    part in the ranks.
    """

    key: str
    rows: tuple[str, ...]
    fit: Fit
    settings: Mapping[str, Any]
    note: str = ""
    is_gan: bool = False
    is_ours: bool = False
    sources: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The row of the method itself."""
        return self.rows[0]

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with the settings, the code or the protocol."""
        identity = [
            PROTOCOL,
            dict(self.settings),
            [_meaning(path.read_text(encoding="utf-8")) for path in self.sources],
        ]
        return sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def _meaning(source: str) -> str:
    """The code without comments, layout and docstrings: rewording it must not cost a night of computing."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
