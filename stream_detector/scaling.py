"""Learns how columns are scaled: the views of a `Normaliser`, from training records."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream_detector.features import FeatureSchema, Kind
from stream_detector.normaliser import KNEES, Layout, Normaliser, spread_out

__all__ = ["learn_scales"]

Floats = NDArray[np.float64]
TAME = 12.5  # mean absolute deviations, about ten standard ones: there the inverse hyperbolic sine bends
LEAST_WIDTH = 1e-3  # of a column's range, that its deviation is at least taken for
HEIGHT = 2.0**0.5  # a category's column; two of them change at once, together as far as a full range
MARK = 1.0  # a gap's column
TINY = 1e-12  # a mean variance that is none


def learn_scales(schema: FeatureSchema, matrix: NDArray[np.float32], views: Sequence[str]) -> Normaliser:
    """The normaliser of training records [record, feature]; looks at no label."""
    layout = Layout(schema, tuple(bool(np.isnan(column).any()) for column in matrix.T))
    raw, present = spread_out(layout, matrix)
    raw[~present] = np.nan
    scalings = [_scaling(layout, raw, view) for view in views]
    centre, scale, jump, knee = (np.stack(parts) for parts in zip(*scalings, strict=True))
    nothing, one = np.zeros_like(centre), np.ones_like(centre)
    bare = Normaliser(layout, tuple(views), centre, scale, jump, knee, nothing, one, nothing)
    bent = [_filled(bare.bend(raw, view)) for view in range(len(views))]
    for view in np.flatnonzero(bare.tamed.any(1)):
        knee[view] = np.where(bare.tamed[view], np.abs(bent[view]).max(0), knee[view])
    offset = np.stack([columns.mean(0) for columns in bent])
    height = [_height(columns, tamed) for columns, tamed in zip(bent, bare.tamed, strict=True)]
    gain = np.stack([_gain(columns, by, layout.judged()) for columns, by in zip(bent, height, strict=True)])
    middles = np.stack([_middle(layout, columns) for columns in bent])
    return replace(bare, knee=knee, offset=offset, gain=gain, filler=(middles - offset) * gain)


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


def _height(bent: Floats, tamed: NDArray[np.bool_]) -> Floats:
    """The factors by which tamed columns range over 2, as bounded ones do."""
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
    """The values that stand in for missing ones: the median of a number, the shares of categories."""
    middle: Floats = np.where(layout.numbers(), np.median(bent, 0), bent.mean(0))
    return middle
