"""The normaliser turns a feature matrix in the input's units into bounded columns for the networks, and back.

A feature becomes one or more columns: a number one, a category one a category, a cyclic number its
sine and cosine, and a feature with gaps in training one more that marks the gap. Each *view* weighs
the columns its own way: `tamed` by their range once heavy tails are drawn in, `bounded` by their
range, `soft` by their standard deviation. All grow as a logarithm far from where the data lay, so
that one wild value is far away yet cannot drown the others. Then one scale for the whole view makes
the judged columns' mean variance 1. `scaling` learns the scales from training records.
"""

# mypy: disable-error-code="no-untyped-call"

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import FeatureSchema, Kind
from stream_detector.scoring.compiled.arithmetic import compiled, log

__all__ = [
    "CHANGED",
    "FAR",
    "KNEES",
    "MAX_CATEGORY_COLUMNS",
    "UNITS",
    "Layout",
    "Normalised",
    "Normaliser",
    "spread_out",
]

Floats = NDArray[np.float64]
MAX_CATEGORY_COLUMNS = 128  # further categories of a feature share the last of these
KNEES = {"tamed": 1.0, "bounded": 1.0, "soft": 3.0}  # where a view stops being linear
UNITS = {"tamed": 2.0, "bounded": 2.0, "soft": 1.0}  # of the logarithm beyond: a range, a standard deviation
FAR = 1e60  # beyond this many units outside the data, all distances are alike
CHANGED = 1e-6  # units that a constant must move to have changed


@dataclass(frozen=True, slots=True)
class Normalised:
    """Columns for the networks: `views` float32 [view, record, column], `context` float32
    [record, column], and `present` float32 [record, column], 0 where a value was imputed.
    """

    views: NDArray[np.float32]
    context: NDArray[np.float32]
    present: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of each feature; a pure function of the schema and of which features had gaps.

    `numeric`, `cyclic` and `categorical` list feature positions; every feature's columns are
    `start[f]` to `start[f + 1]`; a gap mark is a feature's last column.
    """

    schema: FeatureSchema
    gaps: tuple[bool, ...]

    def widths(self) -> list[int]:
        """Columns of each feature, its gap mark included."""
        return [self._values(f) + self.gaps[f] for f in range(len(self.gaps))]

    def starts(self) -> NDArray[np.int64]:
        """First column of each feature, and one past the last column of all, int64 [feature + 1]."""
        return np.concatenate(([0], np.cumsum(self.widths()))).astype(np.int64)

    def owners(self) -> NDArray[np.int64]:
        """The feature each column belongs to, int64 [column]."""
        owners: NDArray[np.int64] = np.repeat(np.arange(len(self.gaps)), self.widths())
        return owners

    def of_kind(self, kind: Kind) -> list[int]:
        """Positions of the features of `kind`."""
        return [f for f, feature in enumerate(self.schema.features) if feature.kind is kind]

    def judged(self) -> NDArray[np.bool_]:
        """Marks the columns that are judged, the others being context, bool [column]."""
        judged = np.array([not feature.context for feature in self.schema.features], dtype=np.bool_)
        return judged[self.owners()]

    def numbers(self) -> NDArray[np.bool_]:
        """Marks the columns that are a number as it is, bool [column]."""
        numbers = np.zeros(sum(self.widths()), dtype=np.bool_)
        numbers[self.starts()[self.of_kind(Kind.NUMERIC)]] = True
        return numbers

    def marks(self) -> NDArray[np.int64]:
        """Columns that mark gaps, one for each feature with gaps, in order."""
        return self.starts()[1:][np.array(self.gaps, dtype=np.bool_)] - 1

    def code_column(self, feature: int, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """The column of each category code; an unseen one has the feature's last."""
        known = len(self.schema.features[feature].vocabulary)
        column = np.minimum(codes, min(known, MAX_CATEGORY_COLUMNS - 1))
        unseen = self._values(feature) - 1
        columns: NDArray[np.int64] = np.where(codes >= known, unseen, column) + self.starts()[feature]
        return columns

    def _values(self, feature: int) -> int:
        described = self.schema.features[feature]
        if described.kind is Kind.CYCLIC:
            return 2
        if described.kind is Kind.CATEGORICAL:
            return min(len(described.vocabulary), MAX_CATEGORY_COLUMNS) + 1
        return 1


@dataclass(frozen=True)
class Normaliser:
    """Scales columns as was learnt from training records; immutable.

    All are float64 [view, column]; `offset` and `gain` give a view mean 0 and mean variance 1; `knee`
    is how far from the centre a column is linear, or in a tamed one the data lay.
    """

    layout: Layout
    views: tuple[str, ...]
    centre: Floats
    scale: Floats
    jump: Floats
    knee: Floats
    offset: Floats
    gain: Floats
    filler: Floats

    @property
    def columns(self) -> tuple[int, int]:
        """Numbers of judged and of context columns."""
        judged = self.layout.judged()
        return int(judged.sum()), int((~judged).sum())

    def __call__(self, matrix: NDArray[np.float32]) -> Normalised:
        """Columns of records [record, feature] in the input's units, NaN where missing."""
        if self._is_plain:
            return self._tame(matrix)
        raw, present = spread_out(self.layout, matrix)
        judged = self.layout.judged()
        complete = bool(present.all())
        stacked = np.empty((len(self.views), *raw.shape), dtype=np.float32)
        for view in range(len(self.views)):
            bent = self.bend(raw, view)
            stacked[view] = bent if complete else np.where(present, bent, self.filler[view])
        if judged.all():
            context = np.zeros((len(matrix), 0), dtype=np.float32)
            return Normalised(stacked, context, present.astype(np.float32))
        return Normalised(
            np.ascontiguousarray(stacked[:, :, judged]),
            np.ascontiguousarray(stacked[0][:, ~judged]),
            np.ascontiguousarray(present[:, judged].astype(np.float32)),
        )

    def inverse(self, columns: NDArray[np.float32], view: int) -> Floats:
        """Judged columns [record, column] of one view as features [record, feature].

        In the input's units, kept to where the view is linear (for the others than `soft`, to where the data lay);
        a category is the code of its highest column, one past the end for unseen; context features
        are NaN.
        """
        judged = self.layout.judged()
        full = np.full((len(columns), len(judged)), np.nan)
        full[:, judged] = columns / self.gain[view, judged] + self.offset[view, judged]
        within = np.clip(full, -self.knee[view], self.knee[view])
        raw = self.centre[view] + np.where(self.tamed[view], np.sinh(within), within) / self.scale[view]
        return _gather(self.layout, raw, full)

    @cached_property
    def _is_plain(self) -> bool:
        """Tells whether all columns are judged numbers in tamed views: no categories, no marks, no context."""
        return bool(self.tamed.all()) and bool(self.layout.judged().all())

    def _tame(self, matrix: NDArray[np.float32]) -> Normalised:
        scales = zip(self.centre, self.scale, self.jump, self.offset, self.gain, self.filler, strict=True)
        tamed = [_tame(np.ascontiguousarray(matrix), *view) for view in scales]
        context = np.zeros((len(matrix), 0), dtype=np.float32)
        return Normalised(np.stack([columns for columns, _ in tamed]), context, tamed[0][1])

    @cached_property
    def tamed(self) -> NDArray[np.bool_]:
        """Marks the columns that are tamed, bool [view, column]: numbers in such a view."""
        return np.outer([view == "tamed" for view in self.views], self.layout.numbers())

    def bend(self, raw: Floats, view: int) -> Floats:
        """Columns on their way to the networks; odd about the centre, and rising."""
        shifted = raw - self.centre[view]
        far = np.minimum(np.abs(shifted) * self.scale[view], FAR)
        tamed = self.tamed[view]
        if tamed.all():
            bent = np.arcsinh(far)
        else:
            bent = _kneed(far, self.knee[view], UNITS[self.views[view]])
            bent[:, tamed] = np.arcsinh(far[:, tamed])
        if self.jump[view].any():
            bent += self.jump[view] * (far > CHANGED)
        np.copysign(bent, shifted, out=bent)
        bent -= self.offset[view]
        columns: Floats = bent * self.gain[view]
        return columns


def spread_out(layout: Layout, matrix: NDArray[np.float32]) -> tuple[Floats, NDArray[np.bool_]]:
    """Unscaled columns [record, column] and which of them were observed."""
    missing = np.isnan(matrix)
    gappy = bool(missing.any())
    owners = layout.owners()
    plain = len(layout.of_kind(Kind.NUMERIC)) == len(owners)
    raw = matrix.astype(np.float64) if plain else np.zeros((len(matrix), len(owners)))
    present = ~missing[:, owners] if gappy else np.ones(raw.shape, dtype=np.bool_)
    if gappy:
        matrix = np.where(missing, 0, matrix)
        raw = np.where(missing, 0.0, raw) if plain else raw
    if not plain:
        starts = layout.starts()
        if numeric := layout.of_kind(Kind.NUMERIC):
            raw[:, starts[numeric]] = matrix[:, numeric]
        for feature in layout.of_kind(Kind.CYCLIC):
            turn = 2 * np.pi * matrix[:, feature].astype(np.float64) / (layout.schema.features[feature].period or 1.0)
            raw[:, starts[feature]], raw[:, starts[feature] + 1] = np.sin(turn), np.cos(turn)
        rows = np.arange(len(matrix))
        for feature in layout.of_kind(Kind.CATEGORICAL):
            raw[rows, layout.code_column(feature, matrix[:, feature].astype(np.int64))] = 1.0
        if any(layout.gaps):
            marks = layout.marks()
            raw[:, marks] = missing[:, np.array(layout.gaps)]
            present[:, marks] = True
    return raw, present


def _kneed(far: Floats, knee: Floats, unit: float) -> Floats:
    """Linear up to the knee, then a logarithm that starts with the same slope."""
    bent: Floats = np.minimum(far, knee)
    outside = far > bent
    if outside.any():
        bent[outside] += unit * np.log1p((far[outside] - bent[outside]) / unit)
    return bent


def _gather(layout: Layout, raw: Floats, bent: Floats) -> Floats:
    """Columns back to features: numbers as they are, the angle of a circle, the highest category."""
    starts = layout.starts()
    features = np.full((len(raw), len(layout.gaps)), np.nan)
    for feature, described in enumerate(layout.schema.features):
        if described.context:
            continue
        first, end = starts[feature], starts[feature + 1] - layout.gaps[feature]
        if described.kind is Kind.NUMERIC:
            features[:, feature] = raw[:, first]
        elif described.kind is Kind.CYCLIC:
            turn = np.arctan2(raw[:, first], raw[:, first + 1]) / (2 * np.pi)
            features[:, feature] = (turn % 1.0) * (described.period or 1.0)
        else:
            code = bent[:, first:end].argmax(1)
            features[:, feature] = np.where(code == end - first - 1, len(described.vocabulary), code)
    return features


@compiled
def _tame(
    matrix: NDArray[np.float32],
    centre: Floats,
    scale: Floats,
    jump: Floats,
    offset: Floats,
    gain: Floats,
    filler: Floats,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Columns float32 [record, column] of numbers [record, column], and which were there, 0 or 1.

    A column is `gain` times what its inverse hyperbolic sine in units of 1 / `scale` about `centre` lies above
    `offset`; one that was constant and changes jumps; what is missing (NaN) is `filler`. All float64 [column].
    """
    columns, present = np.empty(matrix.shape, np.float32), np.empty(matrix.shape, np.float32)
    for row in range(matrix.shape[0]):
        for column in range(matrix.shape[1]):
            value = np.float64(matrix[row, column])
            shifted = value - centre[column]
            far = min(abs(shifted) * scale[column], FAR)
            bent = log(far + math.sqrt(far * far + 1.0)) + (jump[column] if far > CHANGED else 0.0)
            bent = (-bent if shifted < 0 else bent) - offset[column]
            there = value == value
            columns[row, column] = bent * gain[column] if there else filler[column]
            present[row, column] = 1.0 if there else 0.0
    return columns, present
