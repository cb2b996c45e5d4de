"""This project's detector as a method: one default configuration for every set."""

import ast
from functools import cache
from pathlib import Path

import stream_detector
from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from stream_detector import ModelConfig

__all__ = ["OURS", "detector", "engine_sources"]

ENGINE = Path(stream_detector.__file__).parent
# Read by fitting too, but they decide no score.
BESIDE = {"artifact.py", "errors.py", "events.py", "explanation.py", "run_directory.py"}


def detector(key: str, name: str, config: ModelConfig, note: str = "", opinions: tuple[str, ...] = ()) -> Method:
    """The detector under a configuration; `opinions` are further rows: "inversion", "discriminator"."""

    def fit(train: Matrix, seed: int) -> Score:
        model = stream_detector.fit(train, config=config, seed=seed, device="cpu")

        def score(X: Matrix) -> list[Matrix]:
            scores = model.score(X)
            return [scores.anomaly, *(getattr(scores, opinion) for opinion in opinions)]

        return score

    rows = (name, *(f"{name}: {opinion} alone" for opinion in opinions))
    settings = config.model_dump(mode="json")
    return Method(key, rows, fit, settings, note, is_gan=True, is_ours=True, sources=engine_sources())


@cache
def engine_sources() -> tuple[Path, ...]:
    """The modules that decide a score: `fitting.fit` and all it imports of the engine."""
    found: set[Path] = set()
    waiting = [ENGINE / "fitting" / "fit.py"]
    while waiting:
        path = waiting.pop()
        if path.is_file() and path not in found and path.name not in BESIDE:
            found.add(path)
            waiting += _imports(path)
    return tuple(sorted(found))


def _imports(path: Path) -> list[Path]:
    names = [node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return [ENGINE.parent.joinpath(*name.split(".")).with_suffix(".py") for name in names if name]


OURS = detector(
    "ours",
    "ours",
    ModelConfig(),
    "default configuration; `alone` are the two opinions of the same model",
    ("inversion", "discriminator"),
)
