"""Products whose rows do not depend on each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.gan.memory import LEAF
from stream_detector.scoring.compiled.layers import (
    multiply,
    multiply_from,
    multiply_onto,
    multiply_triangle,
    product,
    square_sum,
)
from stream_detector.scoring.compiled.nearest import choose, least, lowest, measure_gaps, multiply_leaf, within
from stream_detector.scoring.compiled.simd import LANES, ROWS, WIDTH


def matrices(rows, depth, blocks, seed):
    rng = np.random.default_rng(seed)
    left = rng.normal(size=(rows, depth)).astype(np.float32)
    return left, rng.normal(size=(depth, blocks * WIDTH)).astype(np.float32)


@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 4), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_product_is_numpys(rows, depth, blocks, seed):
    """Any number of rows, any depth: the product is that of NumPy, but for the last bits."""
    left, right = matrices(rows, depth, blocks, seed)
    found = np.full((rows, blocks * WIDTH), np.nan, np.float32)
    multiply(left, right, found, rows)
    exact = left.astype(np.float64) @ right.astype(np.float64)
    assert np.abs(found - exact).max() <= 1e-6 * depth * (1 + np.abs(exact).max())


@given(st.integers(1, 30), st.integers(1, 70), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_row_is_the_same_in_any_company(rows, depth, seed):
    """A row computed alone equals, to the bit, the same row computed with others."""
    left, right = matrices(rows, depth, 2, seed)
    together, alone = np.empty((2, rows, 2 * WIDTH), np.float32)
    multiply(left, right, together, rows)
    for row in range(rows):
        multiply(left[row:], right, alone[row:], 1)
    assert np.array_equal(together, alone)


def test_rows_beyond_those_asked_for_stay_as_they_are():
    """Of a larger buffer, only the rows asked for are written."""
    left, right = matrices(8, 5, 1, 0)
    found = np.full((8, WIDTH), np.nan, np.float32)
    multiply(left, right, found, 7)
    assert not np.isnan(found[:7]).any()
    assert np.isnan(found[7]).all()


@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 4), st.sampled_from([0.1, 1.0]), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_product_begins_where_it_is_told_to(rows, depth, blocks, slope, seed):
    """From a bias on or from what is there, and what is negative lessened: NumPy's, but for the last bits."""
    left, right = matrices(rows, depth, blocks, seed)
    begun = matrices(rows + 1, 1, blocks, seed + 1)[1][0] * np.arange(1, rows + 2, dtype=np.float32)[:, None]
    bias, onto, found = begun[0].copy(), begun[1:].copy(), np.full((rows, blocks * WIDTH), np.nan, np.float32)
    exact = left.astype(np.float64) @ right.astype(np.float64)
    multiply_from(left, right, bias, np.float32(slope), found, rows)
    multiply_onto(left, right, onto, rows)
    from_bias = np.where(exact + bias > 0, exact + bias, np.float32(slope) * (exact + bias))
    slack = 1e-6 * depth * (1 + np.abs(exact).max() + np.abs(begun).max())
    assert np.abs(found - from_bias).max() <= slack
    assert np.abs(onto - (exact + begun[1:])).max() <= slack


@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_a_triangle_gives_what_the_whole_gives(rows, blocks, seed):
    """An upper triangular factor gives the same bits, though half of it is not looked at."""
    left, right = matrices(rows, blocks * WIDTH, blocks, seed)
    whole, part = np.zeros((2, rows, blocks * WIDTH), np.float32)
    multiply(left, np.triu(right), whole, rows)
    multiply_triangle(left, np.triu(right), part, rows)
    assert np.array_equal(whole, part)


@pytest.mark.parametrize("rows", [1, 3, ROWS])
@pytest.mark.parametrize("leaf", [0, 2])
def test_a_leaf_gives_what_the_whole_gives(rows, leaf):
    """A leaf's columns, cut into blocks, give chosen rows the same bits as the whole matrix."""
    left, right = matrices(20, 17, 3 * LEAF // WIDTH, 1)
    blocks = np.ascontiguousarray(right.reshape(17, -1, WIDTH).transpose(1, 0, 2))
    whole, part = np.zeros((20, 3 * LEAF), np.float32), np.zeros((ROWS, LEAF), np.float32)
    chosen = np.array([0, 0, 9, 3, 19, 4, 11, 2], np.int32)
    multiply(left, right, whole, 20)
    multiply_leaf(left, chosen, 2, rows, blocks, leaf, part)
    assert np.array_equal(part[:rows], whole[chosen[2 : 2 + rows], LEAF * leaf : LEAF * (leaf + 1)])


@given(st.integers(1, 70), st.integers(1, 20), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_gaps_are_distances_from_boxes(rows, depth, seed):
    """Squared distances from boxes are NumPy's, but for the last bits, and the nearest box is the first of the least."""
    rng, room = np.random.default_rng(seed), rows + -rows % WIDTH
    x = rng.normal(size=(depth, room)).astype(np.float32)
    corners = np.sort(rng.normal(size=(2, depth, 3)).astype(np.float32), 0)
    start, found = rng.normal(size=room).astype(np.float32), np.zeros((3, room), np.float32)
    nearest, which = np.full(room, 1e30, np.float32), np.zeros(room, np.int32)
    for box in range(3):
        measure_gaps(x, *corners, box, start, found[box], nearest, which, rows)
    outside = np.maximum(corners[0].T[:, :, None] - x, x - corners[1].T[:, :, None]).clip(0)
    exact = start + np.square(outside.astype(np.float64)).sum(1)
    assert np.abs(found - exact)[:, :rows].max() <= 1e-6 * depth * (1 + np.abs(exact).max())
    assert np.array_equal(nearest, found.min(0))
    assert np.array_equal(which, found.argmin(0))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 3), st.integers(0, 7))
def test_chosen_are_the_places_not_above_their_limit(values, limit, more):
    """Places whose value is at most its limit come out in order, none beyond the rows asked for."""
    room = len(values) + -len(values) % LANES
    x = np.pad(np.array(values, np.float32), (0, room - len(values)))
    chosen, rows = np.full(room + LANES, -1, np.int32), max(1, len(values) - more)
    count = choose(x, np.full(room, limit, np.float32), rows, chosen)
    assert chosen[:count].tolist() == [place for place, value in enumerate(values[:rows]) if value <= limit]


@given(st.integers(1, 8), st.integers(0, 3), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_sums_over_a_row_are_numpys(blocks, row, seed):
    """Products and sums of squares of a row's beginning are NumPy's, but for the last bits."""
    x, w = matrices(4, 9 * WIDTH, 1, seed)[0], matrices(1, blocks * WIDTH, 1, seed + 1)[0][0]
    known = x[row, : blocks * WIDTH].astype(np.float64)
    assert abs(product(x, row, w) - known @ w) <= 1e-6 * len(w) * (1 + np.abs(known * w).max())
    assert abs(square_sum(x, row, len(w)) - known @ known) <= 1e-6 * len(w) * (1 + np.square(known).max())


@given(st.lists(st.integers(0, 3), min_size=LEAF, max_size=LEAF), st.integers(0, 3))
def test_what_is_not_above_a_limit_has_its_bit(values, limit):
    """The bits name the values that are at most the limit, from the lowest on."""
    x = np.full((2, LEAF), np.inf, np.float32)
    x[1] = values
    bits = within(x, 1, np.float32(limit))
    places = [place for place in range(LEAF) if bits >> place & 1]
    assert places == [place for place, value in enumerate(values) if value <= limit]
    assert not places or lowest(bits) == places[0]


def test_every_lane_has_its_least():
    """The least of every LANES-th value of a row is found."""
    x, found = matrices(3, LEAF, 1, 0)[0], np.zeros(LANES, np.float32)
    least(x, 2, found)
    assert np.array_equal(found, x[2].reshape(-1, LANES).min(0))
