"""This project's detector as a method: one default configuration for every set."""

from pathlib import Path

import stream_detector
from benchmarks.quality.data import Matrix
from benchmarks.quality.method import Method, Score
from stream_detector import ModelConfig

__all__ = ["OURS", "detector"]

ENGINE = Path(stream_detector.__file__).parent
# What decides a score. The rest of the engine (records, Kafka, reports) may change without a new run.
SOURCES = ("fitting.py", "normaliser.py", "gan/*.py", "scoring/[!et]*.py")


def detector(key: str, name: str, config: ModelConfig, note: str = "", opinions: tuple[str, ...] = ()) -> Method:
    """The detector under a configuration; `opinions` are further rows: "inversion", "discriminator"."""

    def fit(train: Matrix, seed: int) -> Score:
        model = stream_detector.fit(train, config=config, seed=seed, device="cpu")

        def score(X: Matrix) -> list[Matrix]:
            scores = model.score(X)
            return [scores.anomaly, *(getattr(scores, opinion) for opinion in opinions)]

        return score

    rows = (name, *(f"{name}: {opinion} alone" for opinion in opinions))
    sources = tuple(sorted(path for pattern in SOURCES for path in ENGINE.glob(pattern)))
    return Method(key, rows, fit, config.model_dump(mode="json"), note, is_gan=True, is_ours=True, sources=sources)


OURS = detector(
    "ours",
    "ours",
    ModelConfig(),
    "default configuration; `alone` are the two opinions of the same model",
    ("inversion", "discriminator"),
)
