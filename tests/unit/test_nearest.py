"""The nearest kept records: found among few, and the same as among all."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.gan.memory import LEAF, NEAR, NOWHERE
from stream_detector.scoring.compiled.layout import TILE, KeptRecords, Workspace
from stream_detector.scoring.compiled.nearest import Leaves, find_nearest


def keys_of(known):
    """As a memory keeps them: [column + 1, slot], the empty slots far off."""
    keys = np.concatenate((-2 * known, np.square(known).sum(1, keepdims=True)), 1).T
    keys = np.pad(keys, ((0, 0), (0, -len(known) % LEAF)))
    keys[-1, len(known) :] = NOWHERE
    return np.ascontiguousarray(keys, dtype=np.float32)


def kept_of(known):
    leaves = Leaves.of(keys_of(known), len(known))
    nothing = np.zeros((1, 1, 1), np.float32)
    return KeptRecords(nothing, nothing, nothing, *(np.asarray(part)[None] for part in leaves))


def workspace_for(kept, columns):
    """A workspace of which only what the nearest are found in is of use."""
    empty = np.zeros((1, 1, 1, 16), np.float32)
    layers = SimpleNamespace(**dict.fromkeys(("first", "first_back", "last", "skip", "middle"), empty[0]))
    autoencoder = SimpleNamespace(encoder=layers, generator=layers, robust_scale=empty[0, 0], latent=1)
    return Workspace.of(autoencoder, kept, SimpleNamespace(layers=layers), columns, 0)


def found_by(kept, queries, own=None):
    """Positions [query, NEAR], found a tile at a time."""
    own = np.full(len(queries), -1) if own is None else own
    workspace, found = workspace_for(kept, queries.shape[1]), []
    for first in range(0, len(queries), TILE):
        rows = min(TILE, len(queries) - first)
        workspace.query[:rows] = np.pad(queries[first : first + rows], ((0, 0), (0, 1)), constant_values=1)
        find_nearest(kept, 0, own, first, workspace, rows)
        found.append(workspace.nearest[:rows].copy())
    return np.concatenate(found)


def among_all(kept, queries, own=None):
    """The same from every distance, each to the bit as the search computes it: alone, one leaf after the other."""
    own = np.full(len(queries), -1) if own is None else own
    return np.array([found_by(kept, queries[at : at + 1], own[at : at + 1])[0] for at in range(len(queries))])


def clustered(rows, columns, seed, scale=1.0, offset=0.0):
    """Records about a few centres: what leaves are good for."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(scale=5, size=(6, columns))
    found = centres[rng.integers(0, 6, rows)] + rng.normal(size=(rows, columns))
    return (scale * found + offset).astype(np.float32)


@given(st.integers(NEAR + 1, 700), st.integers(1, 9), st.sampled_from([1e-3, 1.0, 1e4]), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_the_nearest_are_numpys(count, columns, scale, seed):
    """The records found are as near as the nearest of all, and in order."""
    known, queries = clustered(count, columns, seed, scale), clustered(20, columns, seed + 1, scale)
    apart = np.square(queries[:, None].astype(np.float64) - known).sum(2)
    found = np.take_along_axis(apart, found_by(kept_of(known), queries), 1)
    slack = 1e-5 * (1 + columns) * (np.square(queries).sum(1).max() + np.square(known).sum(1).max())
    assert np.abs(found - np.sort(apart, 1)[:, :NEAR]).max() <= slack


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0.0), (1.0, 0.0), (1e4, 0.0), (1.0, 3e3)])
@pytest.mark.parametrize("seed", range(4))
def test_leaving_leaves_out_changes_nothing(seed, scale, offset):
    """Rows that leave most leaves out find, to the position, what rows find that look into all of them: where
    distances are small beside what they are computed from, too, and rounding decides.
    """
    kept = kept_of(clustered(1_500, 5, seed, scale, offset))
    queries = clustered(2 * TILE + 11, 5, seed + 100, scale, offset)
    assert np.array_equal(found_by(kept, queries), among_all(kept, queries))


def test_of_equals_the_first_is_nearer():
    """Of records that are equally near, those with the lower positions are found, in whatever leaves they lie."""
    known = np.repeat(clustered(40, 3, 0), 10, 0)[np.random.default_rng(1).permutation(400)]
    kept = kept_of(known)
    for row, found in zip(known[:30], found_by(kept, known[:30]), strict=True):
        assert found.tolist() == np.flatnonzero((known == row).all(1))[:NEAR].tolist()


def test_a_record_does_not_find_itself_where_it_may_not():
    """A kept record that leaves itself out finds others, and the same others as without it."""
    known = clustered(300, 4, 3)
    alone = found_by(kept_of(known), known, np.arange(300))
    assert (alone != np.arange(300)[:, None]).all()
    without = found_by(kept_of(np.delete(known, 20, 0)), known[:50])
    assert alone[20].tolist() == [at + (at >= 20) for at in without[20].tolist()]


def test_every_record_has_a_slot_in_a_leaf_whose_box_holds_it():
    """The leaves hold each record once, within their boxes, and only the last is short."""
    known = clustered(333, 4, 5)
    leaves = Leaves.of(keys_of(known), 333)
    assert sorted(leaves.slots.tolist()) == list(range(384))
    assert leaves.slots[333:].tolist() == list(range(333, 384))
    for leaf in range(leaves.low.shape[1]):
        inside = known[leaves.slots[leaf * LEAF : min(333, (leaf + 1) * LEAF)]]
        assert (inside >= leaves.low[:, leaf]).all()
        assert (inside <= leaves.high[:, leaf]).all()
