"""The search among kept records is exact, and never finds what it must not."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.gan.memory import NEAR, Memory, capacity
from stream_detector.gan.networks import Gan, Sizes
from stream_detector.scoring.scorer import Screen


def memory_of(records, context):
    sizes = Sizes(records.shape[2], context.shape[1], 2, (16,), 4, len(records), len(records), len(records), False)
    gan = Gan.random(sizes, torch.Generator().manual_seed(0))
    return Memory.of(gan, records, context)


def drawn(seed, views, rows, columns):
    return torch.randn(views, rows, columns, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 1000), st.integers(NEAR + 1, 300), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_the_nearest_are_the_nearest(seed, kept, columns):
    """In every view the records found have the least distances there are, the nearest first."""
    records, queries = drawn(seed, 2, kept, columns), drawn(seed + 1, 2, 20, columns)
    memory = memory_of(records, torch.zeros(kept, 0))
    nearest = memory.nearest(queries, torch.zeros(20, 0))
    exact = torch.cdist(queries, records).sort(2).values[:, :, :NEAR]
    found = (queries.unsqueeze(2) - memory.neighbours(nearest)).square().sum(3).sqrt()
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-3)


def test_a_record_does_not_find_itself_when_told_not_to():
    """Own positions are left out, and only those."""
    records = drawn(0, 2, 50, 4)
    memory = memory_of(records, torch.zeros(50, 0))
    own = torch.arange(50)
    assert (memory.nearest(records, torch.zeros(50, 0))[:, :, 0] == own).all()
    own[25:] = -1
    nearest = memory.nearest(records, torch.zeros(50, 0), own)
    assert (nearest[:, :25] != torch.arange(25)[:, None]).all()
    assert (nearest[:, 25:, 0] == torch.arange(25, 50)).all()


def test_neighbours_share_the_context():
    """A record's neighbours are of its own context while there are any, however near the others are."""
    context = torch.eye(2).repeat(30, 1) * 1.4
    records = drawn(1, 1, 60, 3)
    nearest = memory_of(records, context).nearest(records, context.flip(1))
    assert (nearest % 2 != torch.arange(60)[:, None] % 2).all()


def test_the_prior_is_the_mean_of_the_neighbours_latents():
    """Beside the neighbours' latents there are their mean and their mean squared distance from it."""
    memory = memory_of(drawn(2, 2, 40, 3), torch.zeros(40, 0))
    nearest = torch.tensor([[[0, 1, 2]], [[3, 4, 5]]])
    known, anchor, scatter = memory.prior(nearest)
    for member, rows in enumerate(([0, 1, 2], [3, 4, 5])):
        latents = memory.latents[member, rows]
        assert torch.equal(known[member, 0], latents.flatten())
        torch.testing.assert_close(anchor[member, 0], latents.mean(0))
        torch.testing.assert_close(scatter[member, 0], (latents - latents.mean(0)).square().sum(1).mean())


def test_wide_records_are_fewer():
    """As many are kept as wanted and available; of very wide ones only what the memory may take."""
    assert capacity(4096, 500, 2, 16) == 500
    assert capacity(4096, 10**6, 2, 16) == 4096
    assert 64 <= capacity(4096, 10**6, 2, 10_000) < 4096


@given(st.integers(0, 1000))
def test_searched_records_stay_beyond_the_screen(seed):
    """No searched record passes one that was not worth it, and among the searched what is left decides."""
    starts = drawn(seed, 1, 300, 2)[0].double().numpy()
    refined = starts - drawn(seed + 1, 1, 300, 2)[0].double().abs().numpy()
    screen = Screen.fit(starts, refined, 0.5)
    joined = screen.joined(starts.T, refined.T)
    for view in range(2):
        searched = starts[:, view] > screen.start[view]
        assert joined[view, searched].min() > joined[view, ~searched].max()
        order = refined[searched, view].argsort()
        assert (joined[view, searched][order][1:] >= joined[view, searched][order][:-1]).all()
