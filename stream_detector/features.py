"""Features of records, and how records become a matrix.

The matrix is float32 [record, feature] in the input's units: a number is itself (less its feature's
origin, where it has one: what differs would be lost in float32), a missing
value is NaN, a boolean 1 or 0, a category its index in the feature's vocabulary (one past the end
when the category was never seen); text that reads as a number is that number. Scaling for the networks is the model's business, not done here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from itertools import chain
from json import dumps
from math import inf, nan
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_detector.errors import ConfigError, DataError
from stream_detector.values import number

__all__ = ["Encoded", "Feature", "FeatureSchema", "Kind", "Rejection", "encode"]

MAX_FEATURES = 10_000
MAX_VOCABULARY = 1_000
STEPS = 128  # of a float32 that a feature's values differ by on average, or it has an origin
FLOAT32_MAX = float(np.finfo(np.float32).max)
NUMBERS = frozenset({int, float, bool})
NUMBERS_OR_NONE = NUMBERS | {type(None)}


class Kind(StrEnum):
    """The way in which a feature's values are read."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    CYCLIC = "cyclic"  # a number that comes round after `period`, as an hour of day after 24


@dataclass(frozen=True, slots=True)
class Feature:
    """One named column.

    `context` features condition the networks and are not judged themselves. `required` makes a
    missing value a rejection. `vocabulary` is learnt by fitting, in sorted order; codes index it.
    So is `origin`: what is subtracted from a number in double precision before it becomes float32;
    0 unless the values differ by too few steps of a float32.
    `kind` may be given as text. Raises `ConfigError` when there is no such kind.
    """

    name: str
    kind: Kind = Kind.NUMERIC
    context: bool = False
    required: bool = False
    period: float | None = None
    vocabulary: tuple[str, ...] = ()
    origin: float = 0.0

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "kind", Kind(self.kind))
        except ValueError:
            raise ConfigError(f"features.{self.name}: kind {self.kind!r}; give one of {', '.join(Kind)}") from None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a record cannot be used: a short stable reason code and a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows that could be used, as a matrix of a schema, and the others with their reasons.

    `matrix` is float32 [kept, feature]; `kept` holds the kept rows' positions, ascending;
    `rejected` maps the other positions to their reasons.
    """

    matrix: NDArray[np.float32]
    kept: Sequence[int]
    rejected: Mapping[int, Rejection]

    @classmethod
    def whole(cls, matrix: NDArray[np.float32]) -> "Encoded":
        """Rows [row, feature] that all can be used and lie less their origins already."""
        return cls(matrix, range(len(matrix)), {})

    def __len__(self) -> int:
        """Kept rows."""
        return len(self.matrix)


@dataclass(frozen=True)
class FeatureSchema:
    """The features of a record, in matrix order.

    Raises `ConfigError` when names repeat, are empty, or a cyclic feature has no period.
    """

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if not names or len(names) > MAX_FEATURES:
            raise ConfigError(f"features: {len(names)} are named; give 1 to {MAX_FEATURES:,}")
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"features: {doubles[0]!r} is named twice; keep one")
        if all(feature.context for feature in self.features):
            raise ConfigError("features: all are context; at least one must be judged")
        for feature in self.features:
            if feature.kind is Kind.CYCLIC and not (feature.period and feature.period > 0):
                raise ConfigError(f"features.{feature.name}: a cyclic feature needs a period > 0")

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in matrix order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def origins(self) -> NDArray[np.float64]:
        """The values that are subtracted from features before they become float32, float64 [feature]."""
        return np.array([feature.origin for feature in self.features])

    @cached_property
    def categorical(self) -> tuple[int, ...]:
        """Where the categorical features are."""
        return tuple(place for place, feature in enumerate(self.features) if feature.kind is Kind.CATEGORICAL)

    @property
    def digest(self) -> str:
        """SHA-256 over names, kinds and vocabularies: equal digests read records alike."""
        return sha256(dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def numbered(cls, width: int) -> "FeatureSchema":
        """Numeric features `x0, x1, …`, for a bare matrix of `width` columns."""
        return cls(tuple(Feature(f"x{column}") for column in range(width)))

    def with_vocabularies(self, rows: Iterable[Mapping[str, Any]]) -> "FeatureSchema":
        """Adds to the features the categories that `rows` hold.

        A feature that has a vocabulary keeps it. Raises `DataError` when a feature has more than
        1,000 categories: such a column is an identifier, not a category.
        """
        open_names = [f.name for f in self.features if f.kind is Kind.CATEGORICAL and not f.vocabulary]
        seen: dict[str, set[str]] = {name: set() for name in open_names}
        for row in rows if open_names else ():
            for name in open_names:
                if isinstance(value := row.get(name), str):
                    seen[name].add(value)
        for name, values in seen.items():
            if len(values) > MAX_VOCABULARY:
                raise DataError(
                    f"feature {name!r} has {len(values):,} different values, at most "
                    f"{MAX_VOCABULARY:,} categories are allowed; leave it out or group its values"
                )
        return FeatureSchema(
            tuple(replace(f, vocabulary=tuple(sorted(seen[f.name]))) if f.name in seen else f for f in self.features)
        )

    def with_origins(self, columns: Iterable[NDArray[np.float64]]) -> "FeatureSchema":
        """Adds to the features the origins that their values call for: a column [record] each, NaN = missing."""
        pairs = zip(self.features, columns, strict=True)
        return FeatureSchema(tuple(replace(feature, origin=_origin(feature, values)) for feature, values in pairs))

    def matches(self, other: "FeatureSchema") -> bool:
        """Tells whether both name the same features of the same kinds, vocabularies aside."""
        return [(f.name, f.kind, f.context, f.period) for f in self.features] == [
            (f.name, f.kind, f.context, f.period) for f in other.features
        ]

    def to_dict(self) -> list[dict[str, Any]]:
        """The features as plain JSON values, for an artifact's header."""
        return [
            {
                "name": f.name,
                "kind": f.kind.value,
                "context": f.context,
                "required": f.required,
                "period": None if f.period is None else float(f.period),
                "vocabulary": list(f.vocabulary),
                **({"origin": f.origin} if f.origin else {}),
            }
            for f in self.features
        ]

    @classmethod
    def from_dict(cls, entries: Sequence[Mapping[str, Any]]) -> "FeatureSchema":
        """Reads what `to_dict` gives; raises KeyError, TypeError or ValueError on other values."""
        return cls(
            tuple(
                Feature(
                    name=str(entry["name"]),
                    kind=Kind(entry["kind"]),
                    context=bool(entry["context"]),
                    required=bool(entry["required"]),
                    period=None if entry["period"] is None else float(entry["period"]),
                    vocabulary=tuple(str(category) for category in entry["vocabulary"]),
                    origin=_finite(entry.get("origin", 0.0)),
                )
                for entry in entries
            )
        )


def encode(schema: FeatureSchema, rows: Sequence[Mapping[str, Any]], max_string: int = 256) -> Encoded:
    """Rows of named values as a float32 matrix [kept, feature], the rest with a reason each.

    The whole batch is converted column by column where every row is well typed and lacks nothing that
    is required, which is nearly always; otherwise row by row. Both ways give the same matrix.
    """
    codes = [{category: code for code, category in enumerate(f.vocabulary)} for f in schema.features]
    if (matrix := _encode_complete(schema, codes, rows, max_string)) is not None:
        return Encoded(matrix, list(range(len(rows))), {})
    kept: list[int] = []
    values: list[list[float]] = []
    rejected: dict[int, Rejection] = {}
    for position, row in enumerate(rows):
        encoded = _encode_row(schema, codes, row, max_string)
        if isinstance(encoded, Rejection):
            rejected[position] = encoded
        else:
            kept.append(position)
            values.append(encoded)
    matrix = np.array(values, dtype=np.float32).reshape(len(kept), len(schema.features))
    return Encoded(matrix, kept, rejected)


def _encode_complete(
    schema: FeatureSchema, codes: Sequence[Mapping[str, int]], rows: Sequence[Mapping[str, Any]], max_string: int
) -> NDArray[np.float32] | None:
    """The matrix when every value is of its type and finite, or missing where it may be; None when any is not."""
    matrix = np.empty((len(rows), len(schema.features)), dtype=np.float32)
    numeric = [column for column, f in enumerate(schema.features) if f.kind is not Kind.CATEGORICAL]
    try:
        if numeric:
            block = _numeric_block([schema.names[column] for column in numeric], rows)
            if block is None:
                return None
            matrix[:, numeric] = block - schema.origins[numeric] if schema.origins.any() else block
        for column, feature in enumerate(schema.features):
            if feature.kind is Kind.CATEGORICAL:
                values = [row.get(feature.name) for row in rows]
                if any(value is not None and (type(value) is not str or len(value) > max_string) for value in values):
                    return None
                code, unseen = codes[column], len(codes[column])
                matrix[:, column] = [np.nan if value is None else code.get(value, unseen) for value in values]
    except OverflowError:  # an integer beyond a double
        return None
    required = [column for column, feature in enumerate(schema.features) if feature.required]
    return None if np.isnan(matrix[:, required]).any() else matrix


def _numeric_block(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
    """Numbers [row, name], NaN for what is missing; None when anything else is among them, or too large a number."""
    try:
        pick = itemgetter(*names)
        flat = list(map(pick, rows) if len(names) == 1 else chain.from_iterable(map(pick, rows)))
    except KeyError:
        flat = [row.get(name) for row in rows for name in names]
    if not NUMBERS_OR_NONE.issuperset(map(type, flat)):
        try:
            flat = [value if type(value) in NUMBERS_OR_NONE else number(value) for value in flat]
        except ValueError:
            return None
    block = np.array(flat, dtype=np.float64).reshape(len(rows), len(names))  # None becomes NaN
    return None if (np.abs(block) > FLOAT32_MAX).any() else block


def _encode_row(
    schema: FeatureSchema, codes: Sequence[Mapping[str, int]], row: Mapping[str, Any], max_string: int
) -> list[float] | Rejection:
    encoded: list[float] = []
    for feature, code in zip(schema.features, codes, strict=True):
        value = row.get(feature.name)
        if value is None or value != value:  # JSON has no NaN; a table read into rows may
            if isinstance(found := _missing(feature), Rejection):
                return found
            encoded.append(found)
        elif feature.kind is Kind.CATEGORICAL:
            if not isinstance(value, str):
                return _wrong_type(feature, value, "a string")
            if len(value) > max_string:
                return Rejection(
                    "string-too-long", f"feature {feature.name!r} has {len(value):,} characters, limit {max_string:,}"
                )
            encoded.append(float(code.get(value, len(code))))
        elif isinstance(found := _number(feature, value), Rejection):
            return found
        else:
            encoded.append(found - feature.origin)
    return encoded


def _number(feature: Feature, value: object) -> float | Rejection:
    """A numeric feature's value, NaN when it is missing."""
    try:
        found = number(value)
    except ValueError:
        return _wrong_type(feature, value, "a number")
    except OverflowError:  # an integer beyond a double
        found = inf
    if found is None:
        return _missing(feature)
    if not abs(found) <= FLOAT32_MAX:
        return Rejection("non-finite", f"feature {feature.name!r} is outside the range of a float32")
    return found


def _missing(feature: Feature) -> float | Rejection:
    if feature.required:
        return Rejection("missing-feature", f"feature {feature.name!r} is required and missing")
    return nan


def _origin(feature: Feature, values: NDArray[np.float64]) -> float:
    """The median of values [record] that differ by too few steps of a float32, a cyclic one's in whole turns; else 0."""
    known = values[~np.isnan(values)]
    if feature.kind is Kind.CATEGORICAL or not len(known):
        return 0.0
    middle = float(np.median(known))
    differ = feature.period if feature.kind is Kind.CYCLIC else float(np.abs(known - middle).mean())
    if not differ or differ >= STEPS * float(np.spacing(np.float32(np.abs(known).max()))):
        return 0.0
    return middle if feature.kind is Kind.NUMERIC else middle // differ * differ


def _finite(value: Any) -> float:
    if not abs(found := float(value)) <= FLOAT32_MAX:
        raise ValueError(f"origin {value} of a feature is no float32")
    return found


def _wrong_type(feature: Feature, value: object, wanted: str) -> Rejection:
    return Rejection("wrong-type", f"feature {feature.name!r} is {type(value).__name__}, expected {wanted}")
