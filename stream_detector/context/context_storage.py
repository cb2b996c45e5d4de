"""How an artifact holds what a model knows of contexts: a part of its header, and tensors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from stream_detector.context.clock import zone
from stream_detector.context.context_model import ContextModel, Projection
from stream_detector.context.profiles import PROFILE_COLUMNS, PROFILE_ROWS, Population, Profiles
from stream_detector.context.spec import ContextSpec
from stream_detector.context.spreads import COLUMNS
from stream_detector.errors import DataError, ModelFormatError
from stream_detector.features import FeatureSchema
from stream_detector.scoring.calibration import KNOTS, TailTable

__all__ = ["ContextHeader", "context_header", "context_tensors"]

SPEC = TypeAdapter(ContextSpec)
GAPS = 2  # columns of a context that are about times
MOST_AXES = 64
PROFILE_PARTS = ("names", "lengths", "rows")
TABLE = ("raw", "nines", "scale", "shape")

Arrays = dict[str, NDArray[Any]]


def context_header(model: ContextModel) -> dict[str, Any]:
    """The values that are no arrays, as JSON values."""
    axes = len(model.projection.axes)
    stored = model.profiles.arrays()
    return {
        "spec": asdict(model.spec),
        "axes": axes,
        "warm": model.warm,
        "newness": model.newness,
        "profiles": len(stored["lengths"]),
        "names": len(stored["names"]),
    }


def context_tensors(model: ContextModel) -> Arrays:
    """The arrays, by name."""
    population, projection = model.population, model.projection
    return {
        "population.centre": population.centre,
        "population.variance": population.variance,
        "population.weight": np.array([population.weight]),
        "projection.centre": projection.centre,
        "projection.scale": projection.scale,
        "projection.axes": projection.axes,
        **{f"profiles.{part}": array for part, array in model.profiles.arrays().items()},
        **{f"combined.{part}": getattr(model.combined, part) for part in TABLE},
    }


@dataclass(frozen=True, slots=True)
class ContextHeader:
    """What an artifact's header says of a model's context."""

    spec: ContextSpec
    axes: int
    warm: int
    newness: float
    profiles: int
    """Entities that have a profile, and the bytes of their names."""
    names: int

    @classmethod
    def read(cls, header: Mapping[str, Any], schema: FeatureSchema) -> Self:
        """Reads it; raises KeyError, TypeError, ValueError or `ConfigError` when it is not sound."""
        spec = SPEC.validate_python(asdict(ContextSpec(**header["spec"])))
        axes, warm, newness = int(header["axes"]), int(header["warm"]), float(header["newness"])
        least = min(spec.memory, spec.memory_records, spec.cap, spec.grace + 1, spec.tolerance + 1)
        sound = min(least, warm) >= 1 and newness >= 0 and spec.clip > 0 and 1 <= axes <= MOST_AXES
        if not sound or not spec.features or not set(spec.features) <= set(schema.names):
            raise ValueError("a context that does not fit its model")
        zone(spec.zone)
        return cls(spec, axes, warm, newness, int(header["profiles"]), int(header["names"]))

    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of each array, by name."""
        features = len(self.spec.features)
        columns = (len(COLUMNS) + len(PROFILE_COLUMNS)) * features + GAPS
        found: dict[str, tuple[int, ...]] = {
            "population.centre": (features,),
            "population.variance": (features,),
            "population.weight": (1,),
            "projection.centre": (columns,),
            "projection.scale": (columns,),
            "projection.axes": (self.axes, columns),
            **dict.fromkeys(("combined.raw", "combined.nines"), (1, KNOTS)),
            **dict.fromkeys(("combined.scale", "combined.shape"), (1,)),
        }
        doubles = {name: ("float64", shape) for name, shape in found.items()}
        return doubles | {
            "profiles.names": ("uint8", (self.names,)),
            "profiles.lengths": ("int64", (self.profiles,)),
            "profiles.rows": ("float16", (self.profiles + 1, PROFILE_ROWS, features)),
        }

    def model(self, arrays: Mapping[str, NDArray[Any]]) -> ContextModel:
        """Puts the model's context together. Raises `ModelFormatError` for profiles that do not fit their names."""
        own = {name: np.array(array) for name, array in arrays.items()}
        centre, variance, weight = (own[f"population.{part}"] for part in ("centre", "variance", "weight"))
        projection = Projection(*(own[f"projection.{part}"] for part in ("centre", "scale", "axes")))
        combined = TailTable(*(own[f"combined.{part}"] for part in TABLE))
        population = Population(centre, variance, float(weight[0]))
        try:
            profiles = Profiles.of({part: own[f"profiles.{part}"] for part in PROFILE_PARTS})
        except (DataError, UnicodeDecodeError) as error:
            raise ModelFormatError(f"the profiles of entities cannot be read: {error}") from None
        return ContextModel(self.spec, population, profiles, projection, combined, self.warm, self.newness)
