"""Products whose rows do not depend on each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.scoring.compiled.products import (
    LANES,
    ROWS,
    WIDTH,
    below,
    lowest,
    multiply,
    multiply_leaf,
    product,
    square_sum,
)
from stream_detector.scoring.memory import LEAF


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


@pytest.mark.parametrize("rows", [1, 3, ROWS])
@pytest.mark.parametrize("leaf", [0, 2])
def test_a_leaf_gives_what_the_whole_gives(rows, leaf):
    """A leaf's columns, cut into blocks, give the same bits as the whole matrix."""
    left, right = matrices(ROWS, 17, 3 * LEAF // WIDTH, 1)
    blocks = np.ascontiguousarray(right.reshape(17, -1, WIDTH).transpose(1, 0, 2))
    whole, part = np.zeros((ROWS, 3 * LEAF), np.float32), np.zeros((ROWS, LEAF), np.float32)
    multiply(left, right, whole, rows)
    multiply_leaf(left, blocks, leaf, part, rows)
    assert np.array_equal(part[:rows], whole[:rows, LEAF * leaf : LEAF * (leaf + 1)])


@given(st.integers(1, 8), st.integers(0, 3), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_sums_over_a_row_are_numpys(blocks, row, seed):
    """Products and sums of squares of a row's beginning are NumPy's, but for the last bits."""
    x, w = matrices(4, 9 * WIDTH, 1, seed)[0], matrices(1, blocks * WIDTH, 1, seed + 1)[0][0]
    known = x[row, : blocks * WIDTH].astype(np.float64)
    assert abs(product(x, row, w) - known @ w) <= 1e-6 * len(w) * (1 + np.abs(known * w).max())
    assert abs(square_sum(x, row, len(w)) - known @ known) <= 1e-6 * len(w) * (1 + np.square(known).max())


@given(st.lists(st.integers(0, 3), min_size=LANES, max_size=LANES), st.integers(0, 3), st.integers(0, LEAF - LANES))
def test_what_is_not_above_a_limit_has_its_bit(values, limit, column):
    """The bits name the values that are at most the limit, from the lowest on."""
    x = np.full((2, LEAF), np.inf, np.float32)
    x[1, column : column + LANES] = values
    bits, places = below(x, 1, column, np.float32(limit)), []
    while bits:
        places.append(lowest(bits))
        bits &= bits - 1
    assert places == [place for place, value in enumerate(values) if value <= limit]
