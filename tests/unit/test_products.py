"""Products whose rows do not depend on each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.scoring.compiled.products import WIDTH, multiply, multiply_blocks


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


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_blocks_give_what_the_whole_gives(rows):
    """The right side cut into blocks gives the same bits as the whole."""
    left, right = matrices(9, 17, 3, 1)
    blocks = np.ascontiguousarray(right.reshape(17, 3, WIDTH).transpose(1, 0, 2))
    whole, parts = np.zeros((2, 9, 3 * WIDTH), np.float32)
    multiply(left[2:], right, whole, rows)
    multiply_blocks(left, blocks, parts, 2, rows)
    assert np.array_equal(whole, parts)
