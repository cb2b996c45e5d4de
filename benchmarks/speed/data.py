"""What is streamed: correlated numbers with a few faults, and a default model of them."""

from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray

import stream_detector
from benchmarks.quality.ours import engine_sources
from stream_detector import DetectorModel, Feature, FeatureSchema, ModelConfig

__all__ = ["DISTINCT", "SCHEMAS", "json_values", "matrix", "model", "names", "stored_model"]

DISTINCT = 20_000  # records that a stream repeats
FITTED_ON = 8_000
FAULTS = 0.001  # share of records with one feature far off
STEPS = 400  # of training: what it has learnt matters little to its cost
CACHE = Path("build/speed")
SCHEMAS = (4, 16, 64, 256)


def names(features: int) -> list[str]:
    return [f"feature_{column}" for column in range(features)]


def matrix(features: int, rows: int = DISTINCT, seed: int = 1) -> NDArray[np.float32]:
    """Records float32 [row, feature]: linear in a quarter as many hidden causes, some noise, few faults."""
    rng = np.random.default_rng(seed)
    causes = max(2, features // 4)
    mixing = np.random.default_rng(99).normal(size=(causes, features))
    found = rng.normal(size=(rows, causes)) @ mixing + 0.1 * rng.normal(size=(rows, features))
    faulty = np.flatnonzero(rng.random(rows) < FAULTS)
    found[faulty, rng.integers(0, features, len(faulty))] += 12.0
    return (50 + 10 * found).round(4).astype(np.float32)


def json_values(features: int, rows: int = DISTINCT) -> list[bytes]:
    """The records as JSON with id, time and entity; 16 features make about 440 bytes."""
    head = names(features)
    return [
        orjson.dumps(
            {
                "id": f"record-{at:08d}",
                "time": 1_700_000_000_000 + at,
                "entity": f"host-{at % 50}",
                "features": dict(zip(head, row, strict=True)),
            }
        )
        for at, row in enumerate(matrix(features, rows).astype(float).round(4).tolist())
    ]


@cache
def model(features: int) -> DetectorModel:
    """The default model of so many features, fitted once and kept in build/speed."""
    return DetectorModel.load(stored_model(features), "cpu")


def stored_model(features: int) -> Path:
    """Where that model is kept; it is fitted if it is not there."""
    torch.set_num_threads(1)
    path = CACHE / f"{features}-{_engine()}.safetensors"
    if not path.exists():
        schema = FeatureSchema(tuple(map(Feature, names(features))))
        fitted = stream_detector.fit(
            matrix(features, FITTED_ON, seed=2), schema, ModelConfig(model={"steps": STEPS}), device="cpu"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        fitted.save(path)
    return path


def _engine() -> str:
    """The engine's identity, so that a model of another engine is not taken for this one's."""
    return sha256(b"".join(source.read_bytes() for source in engine_sources())).hexdigest()[:12]
