"""From a feature matrix in the input's units to bounded columns for the networks, and back.

A feature becomes one or more columns: a number one, a category one a category, a cyclic number its
sine and cosine, and a feature with gaps in training one more that marks the gap. Each *view* weighs
the columns its own way: `tamed` by their range once heavy tails are drawn in, `bounded` by their
range, `soft` by their standard deviation. All grow as a logarithm far from where the data lay, so
that one wild value is far away yet cannot drown the others. Then one scale for the whole view makes
the judged columns' mean variance 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import FeatureSchema, Kind
from stream_detector.taming import CHANGED, FAR, tame

__all__ = ["Layout", "Normalised", "Normaliser"]

Floats = NDArray[np.float64]
MAX_CATEGORY_COLUMNS = 128  # further categories of a feature share the last of these
KNEES = {"tamed": 1.0, "bounded": 1.0, "soft": 3.0}  # where a view stops being linear
UNITS = {"tamed": 2.0, "bounded": 2.0, "soft": 1.0}  # of the logarithm beyond: a range, a standard deviation
TAME = 12.5  # mean absolute deviations, about ten standard ones: there the inverse hyperbolic sine bends
LEAST_WIDTH = 1e-3  # of a column's range, that its deviation is at least taken for
HEIGHT = 2.0**0.5  # a category's column; two of them change at once, together as far as a full range
MARK = 1.0  # a gap's column
TINY = 1e-12  # a mean variance that is none


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
    """Which columns each feature has; a pure function of the schema and of which features had gaps.

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
        """Which columns are judged, the others being context, bool [column]."""
        judged = np.array([not feature.context for feature in self.schema.features], dtype=np.bool_)
        return judged[self.owners()]

    def numbers(self) -> NDArray[np.bool_]:
        """Which columns are a number as it is, bool [column]."""
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
    """How each column is scaled, learnt from training records; immutable.

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

    @classmethod
    def fit(cls, schema: FeatureSchema, matrix: NDArray[np.float32], views: Sequence[str]) -> "Normaliser":
        """Learn the scales from training records [record, feature]; looks at no label."""
        layout = Layout(schema, tuple(bool(np.isnan(column).any()) for column in matrix.T))
        raw, present = _spread_out(layout, matrix)
        raw[~present] = np.nan
        scalings = [_scaling(layout, raw, view) for view in views]
        centre, scale, jump, knee = (np.stack(parts) for parts in zip(*scalings, strict=True))
        nothing, one = np.zeros_like(centre), np.ones_like(centre)
        bare = cls(layout, tuple(views), centre, scale, jump, knee, nothing, one, nothing)
        bent = [_filled(bare._bend(raw, view)) for view in range(len(views))]
        for view in np.flatnonzero(bare._tamed.any(1)):
            knee[view] = np.where(bare._tamed[view], np.abs(bent[view]).max(0), knee[view])
        offset = np.stack([columns.mean(0) for columns in bent])
        height = [_height(columns, tamed) for columns, tamed in zip(bent, bare._tamed, strict=True)]
        gain = np.stack([_gain(columns, by, layout.judged()) for columns, by in zip(bent, height, strict=True)])
        middles = np.stack([_middle(layout, columns) for columns in bent])
        return cls(layout, tuple(views), centre, scale, jump, knee, offset, gain, (middles - offset) * gain)

    @property
    def columns(self) -> tuple[int, int]:
        """Numbers of judged and of context columns."""
        judged = self.layout.judged()
        return int(judged.sum()), int((~judged).sum())

    def __call__(self, matrix: NDArray[np.float32]) -> Normalised:
        """Columns of records [record, feature] in the input's units, NaN where missing."""
        if self._is_plain:
            return self._tame(matrix)
        raw, present = _spread_out(self.layout, matrix)
        judged = self.layout.judged()
        complete = bool(present.all())
        stacked = np.empty((len(self.views), *raw.shape), dtype=np.float32)
        for view in range(len(self.views)):
            bent = self._bend(raw, view)
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
        raw = self.centre[view] + np.where(self._tamed[view], np.sinh(within), within) / self.scale[view]
        return _gather(self.layout, raw, full)

    @cached_property
    def _is_plain(self) -> bool:
        """Whether all columns are judged numbers in tamed views: no categories, no marks, no context."""
        return bool(self._tamed.all()) and bool(self.layout.judged().all())

    def _tame(self, matrix: NDArray[np.float32]) -> Normalised:
        scales = zip(self.centre, self.scale, self.jump, self.offset, self.gain, self.filler, strict=True)
        tamed = [tame(np.ascontiguousarray(matrix), *view) for view in scales]
        context = np.zeros((len(matrix), 0), dtype=np.float32)
        return Normalised(np.stack([columns for columns, _ in tamed]), context, tamed[0][1])

    @cached_property
    def _tamed(self) -> NDArray[np.bool_]:
        """Which columns are tamed, bool [view, column]: numbers in such a view."""
        return np.outer([view == "tamed" for view in self.views], self.layout.numbers())

    def _bend(self, raw: Floats, view: int) -> Floats:
        """Columns on their way to the networks; odd about the centre, and rising."""
        shifted = raw - self.centre[view]
        far = np.minimum(np.abs(shifted) * self.scale[view], FAR)
        tamed = self._tamed[view]
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


def _spread_out(layout: Layout, matrix: NDArray[np.float32]) -> tuple[Floats, NDArray[np.bool_]]:
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


def _scaling(layout: Layout, raw: Floats, view: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Centre, scale, jump and knee [column] of a view."""
    raw = np.where(np.isnan(raw).all(0), 0.0, raw)  # a feature that never had a value is a constant
    low, high = np.nanmin(raw, 0), np.nanmax(raw, 0)
    size = np.maximum(np.abs(low), np.abs(high))
    constant = (high - low) <= np.maximum(1e-6 * size, 1e-30)
    width = np.where(constant, 1.0, high - low)
    knee = np.where(constant, 0.0, KNEES[view])
    if view == "bounded":
        centre, scale = (low + high) / 2, 2 / width
    elif view == "tamed":
        centre = np.nanmedian(raw, 0)
        deviation = np.nanmean(np.abs(raw - centre), 0)
        scale = 1 / (TAME * np.maximum(deviation, LEAST_WIDTH * width))
    else:
        deviation = np.nanstd(raw, 0)
        # A column of two values is as wide as its range: dividing a rare one by its deviation
        # would let a single rare flag outweigh everything else.
        two = np.array([_two_valued(raw[:, column]) for column in range(raw.shape[1])])
        centre = np.nanmean(raw, 0)
        scale = 1 / np.maximum(deviation, np.where(two, 0.25, LEAST_WIDTH) * width)
    # A constant that changes has no scale to be measured by: it jumps by half a range at once.
    jump = np.where(constant, 1.0, 0.0)
    centre = np.where(constant, low, centre)
    scale = np.where(constant, 1 / np.maximum(size, 1.0), scale)
    return _fix_codes(layout, centre, scale, jump, knee)


def _fix_codes(
    layout: Layout, centre: Floats, scale: Floats, jump: Floats, knee: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Category, cyclic and gap columns are 0 or 1 or within a circle: the same in every view."""
    starts = layout.starts()
    for feature, described in enumerate(layout.schema.features):
        if described.kind is not Kind.NUMERIC:
            columns = slice(starts[feature], starts[feature + 1])
            centre[columns], jump[columns], knee[columns] = 0.0, 0.0, HEIGHT
            scale[columns] = HEIGHT if described.kind is Kind.CATEGORICAL else 1.0
    marks = layout.marks()
    centre[marks], scale[marks], jump[marks], knee[marks] = 0.0, MARK, 0.0, HEIGHT
    return centre, scale, jump, knee


def _kneed(far: Floats, knee: Floats, unit: float) -> Floats:
    """Linear up to the knee, then a logarithm that starts with the same slope."""
    bent: Floats = np.minimum(far, knee)
    outside = far > bent
    if outside.any():
        bent[outside] += unit * np.log1p((far[outside] - bent[outside]) / unit)
    return bent


def _height(bent: Floats, tamed: NDArray[np.bool_]) -> Floats:
    """What a tamed column is multiplied by to range over 2, as a bounded one does."""
    width = np.ptp(bent, axis=0)
    return np.where(tamed & (width > 0), 2 / np.where(width > 0, width, 1.0), 1.0)


def _two_valued(column: Floats) -> bool:
    column = column[~np.isnan(column)]
    return bool(np.all((column == column.min()) | (column == column.max())))


def _filled(bent: Floats) -> Floats:
    """Missing values as their column's median, 0 in a column that never had a value."""
    empty = np.isnan(bent).all(0)
    median = np.nanmedian(np.where(empty, 0.0, bent), 0)
    return np.where(np.isnan(bent), median, bent)


def _gain(bent: Floats, height: Floats, judged: NDArray[np.bool_]) -> Floats:
    """The heights, times one factor for all judged columns: their relative scale is the view's own."""
    variance = float((bent * height)[:, judged].var(0).mean())
    return height * np.where(judged, 1 / np.sqrt(variance) if variance > TINY else 1.0, 1.0)


def _middle(layout: Layout, bent: Floats) -> Floats:
    """What stands in for a missing value: the median of a number, the shares of categories."""
    middle: Floats = np.where(layout.numbers(), np.median(bent, 0), bent.mean(0))
    return middle


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
