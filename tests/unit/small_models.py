"""Small fitted models that several tests share, made once."""

from functools import cache

import numpy as np
import torch

from stream_detector import DetectorModel, Feature, FeatureSchema, Kind, ModelConfig, ModelSettings, fit
from stream_detector.gan.settings import InversionSettings

# Threads that wait for each other on a busy machine make small products ten times slower.
torch.set_num_threads(1)

QUICK = ModelSettings(steps=500, members=1, hidden=32, averaging=0.98, batch=128)


def correlated(rows, seed=0):
    """Six correlated features, the last with gaps: float32 [row, 6]."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 2))
    mixed = hidden @ np.random.default_rng(99).normal(size=(2, 6)) + 0.05 * rng.normal(size=(rows, 6))
    mixed[rng.random(rows) < 0.1, 5] = np.nan
    return mixed.astype(np.float32)


@cache
def numeric(**inversion) -> DetectorModel:
    """A model of `correlated` records; every record is searched for."""
    search = InversionSettings(**{"screen": 0.0, **inversion})
    return fit(correlated(500), config=ModelConfig(model=QUICK, inversion=search), device="cpu")


def mixed_rows(rows, seed=0):
    """Feature mappings with a number, a category, a cyclic hour, a constant and gaps."""
    rng = np.random.default_rng(seed)
    load = rng.normal(50, 5, rows)
    return [
        {
            "load": float(value),
            "host": "abc"[index % 3],
            "hour": float(rng.uniform(0, 24)),
            "fixed": 7.0,
            "spare": None if rng.random() < 0.2 else float(2 * value),
        }
        for index, value in enumerate(load)
    ]


MIXED = FeatureSchema(
    (
        Feature("load"),
        Feature("host", Kind.CATEGORICAL),
        Feature("hour", Kind.CYCLIC, period=24.0),
        Feature("fixed"),
        Feature("spare"),
    )
)


@cache
def mixed() -> DetectorModel:
    """A model of `mixed_rows`."""
    return fit(mixed_rows(600), schema=MIXED, config=ModelConfig(model=QUICK), device="cpu")
