"""Scoring by tensors: what it must not depend on, and that it says what the compiled kernel says.

On the CPU the tensors do without streams and graphs; a GPU runs the same tests through them.
"""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import CASES, correlated, mixed, mixed_rows, numeric

from stream_detector.model import as_matrix, scored
from stream_detector.scoring.calibration import Calibration, significant
from stream_detector.scoring.device import DeviceScorer, raw_scores
from stream_detector.scoring.device.nines import Nines, Rounding
from stream_detector.scoring.device.normalising import DeviceNormaliser
from stream_detector.scoring.opinions import Panel, RawScores
from stream_detector.scoring.scorer import Screen

TILE = 256  # small enough for several tiles, and several loads of them, in a test
NO_GPU = "torch finds no CUDA device here: streams, pinned memory and graphs stay untried"
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)))


def scorer_of(model, device, tile=TILE):
    """The scorer of a model on a device, by tensors there."""
    scorer = model.scorer.to(torch.device(device))
    return DeviceScorer.calibrated(scorer, model.calibration, tile)


def screened(model, share=0.5):
    """The model with a screen that so many of its records pass."""
    starts = model.scorer.without_search().raw(correlated(400, 5))["inversion"]
    screen = Screen(np.quantile(starts, share, axis=0), np.quantile(starts, share, axis=0))
    return replace(model, scorer=replace(model.scorer, screen=screen))


@pytest.mark.parametrize("device", DEVICES)
def test_a_record_scores_the_same_to_the_bit_in_any_batch(device):
    """Alone, in another order, beside others, in another tile or load: every record has one score.

    A CPU's library says so only of products in whole lanes, which those of the search are not.
    """
    score = scorer_of(screened(numeric()) if device == "cuda" else numeric(steps=0), device)
    records = np.concatenate((correlated(4_000, 3), correlated(1_000, 4) * np.float32(30)))
    whole = score(records)
    order = np.random.default_rng(0).permutation(len(records))
    assert np.array_equal(score(records[order]), whole[:, order])
    for first, count in ((0, 1), (7, 1), (4_999, 1), (100, 255), (100, 256), (100, 257), (2_000, 2_049)):
        rows = slice(first, first + count)
        assert np.array_equal(score(records[rows]), whole[:, rows]), f"{count} records from {first}"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_kernel(case, device):
    """On whatever networks and features, scores in nines differ from the CPU's by rounding."""
    model, records = CASES[case]()
    wild = records.copy()
    wild[:, 0] *= 10
    records = np.concatenate((records, wild))
    expected, found = model.score(records).columns().T, scorer_of(model, device)(records)
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() < 1e-3 * (1 + np.abs(expected).max())
    assert np.abs(found - expected).mean() < 1e-5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_columns_are_those_of_the_normaliser(case, device):
    """Views, context and gaps by tensors are the normaliser's, values never seen included."""
    model, records = CASES[case]()
    normaliser, records = model.scorer.normaliser, np.concatenate((records, records * 3, np.full_like(records, 1e9)))
    records[::7, 0] = np.nan
    expected = normaliser(records)
    found = DeviceNormaliser(normaliser, torch.device(device))(torch.from_numpy(records).to(device))
    for tensor, array in zip(found, (expected.views, expected.context, expected.present), strict=True):
        assert tensor.shape == array.shape
        assert np.allclose(tensor.cpu().numpy(), array, rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("views", [1, 2])
def test_nines_are_those_of_the_calibration(views, device):
    """Below, within and beyond what a calibration has seen, to the last of six digits."""
    rng = np.random.default_rng(0)
    panel = Panel.of("combined")
    calibration = Calibration.fit(RawScores(panel.parts, rng.normal(size=(3_000, 4 * views))), panel, 3.0)
    raw = np.concatenate((rng.normal(size=(2_000, 4 * views)) * 3, calibration.parts.raw[:, :100].T))
    expected = np.stack([significant(scores) for scores in calibration(RawScores(panel.parts, raw), panel)])
    found = Nines(calibration, panel, torch.device(device))(torch.from_numpy(raw.T.copy()).to(device)).cpu().numpy()
    assert np.abs(found / expected - 1).max() < 2e-5
    assert (found == expected).mean() > 0.99


@pytest.mark.parametrize("device", DEVICES)
def test_significant_digits_are_the_same(device):
    """Six digits by tensors are those of the CPU, for numbers of any size."""
    values = np.concatenate(
        (np.zeros(1), -np.ones(1) / 3, 10.0 ** np.arange(-30, 30), np.random.default_rng(0).lognormal(0, 9, 5_000))
    )
    found = Rounding(torch.device(device))(torch.from_numpy(values).to(device).unsqueeze(0))[0].cpu().numpy()
    assert np.array_equal(found, significant(values))


@pytest.mark.parametrize("device", DEVICES)
def test_records_are_left_out_of_their_own_neighbours(device):
    """Kept records that are told to leave themselves out do so, whichever batch they are in."""
    scorer = numeric(steps=0).scorer
    own = np.arange(len(scorer.kept))
    by_tensors = DeviceScorer.raw(scorer.to(torch.device(device)), TILE)
    found, left_out = by_tensors(scorer.kept), by_tensors(scorer.kept, own)
    assert (left_out[1] > found[1]).all()
    assert np.array_equal(by_tensors(scorer.kept[5:9], own[5:9]), left_out[:, 5:9])
    assert np.array_equal(by_tensors(scorer.kept), found)


@pytest.mark.parametrize("device", DEVICES)
def test_only_records_beyond_the_screen_are_searched_for(device):
    """Raw scores up to the screen are the start's; without a search all are, and without a screen none."""
    model, records = screened(numeric()), correlated(3_000, 6)
    scorer = model.scorer.to(torch.device(device))
    plain = replace(scorer, search=scorer.search.model_copy(update={"steps": 0}))
    everyone = replace(scorer, screen=Screen.everyone(1))
    starts, found, refined = (DeviceScorer.raw(one, TILE)(records)[0] for one in (plain, scorer, everyone))
    beyond = starts > scorer.screen.start[0]
    assert 0.2 < beyond.mean() < 0.8
    assert np.array_equal(found[~beyond], starts[~beyond])
    assert (refined != starts).mean() > 0.5
    expected = scorer.screen.start[0] + np.logaddexp(0, refined - scorer.screen.refined[0])
    assert np.allclose(found[beyond], expected[beyond], atol=1e-4)  # in other places of a tile, on a CPU


@pytest.mark.parametrize("device", DEVICES)
def test_batches_begun_one_after_the_other_are_all_told(device):
    """Scores that are waited for later, or in another order, or never, are those of waiting at once."""
    score = scorer_of(screened(numeric(), 0.2), device)
    batches = [correlated(rows, seed) for seed, rows in enumerate((1, 300, 2_500, 4_000, 700))]
    expected = [score(batch) for batch in batches]
    waiting = [score.begin(batch) for batch in batches]
    score.begin(batches[1])
    for place in (3, 0, 4, 1, 2):
        assert np.array_equal(waiting[place](), expected[place])
    assert np.array_equal(waiting[3](), expected[3])


@pytest.mark.parametrize("device", DEVICES)
def test_threads_take_turns(device):
    """Several threads score at once with one scorer, and each gets what it would get alone."""
    score, batches = scorer_of(numeric(steps=0), device), [correlated(700, seed) for seed in range(4)]
    alone, found = [score(batch) for batch in batches], {}

    def work(place):
        for _ in range(3):
            found[place] = score(batches[place])

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[place], alone[place]) for place in range(4))


@pytest.mark.parametrize("device", DEVICES)
def test_any_matrix_will_do(device):
    """None, one that cannot be written to, and one that is not contiguous."""
    score, records = scorer_of(mixed(), device), as_matrix(mixed_rows(300, 1), mixed().schema)
    expected = score(records)
    assert score(records[:0]).shape == (3, 0)
    assert np.array_equal(score(np.asfortranarray(records)), expected)
    records.flags.writeable = False
    assert np.array_equal(score(records), expected)


def test_a_larger_memory_has_smaller_tiles():
    """Distances from all kept records never take more than so much room."""
    scorer = numeric().scorer
    keys = scorer.memory.keys.repeat(1, 1, 1_000)
    large = replace(scorer, memory=replace(scorer.memory, keys=keys))
    tiles = [DeviceScorer.raw(each)._tile for each in (scorer, large)]
    assert tiles[1] < tiles[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)
def test_a_model_on_a_gpu_scores_there():
    """The model's own scores come from graphs on the GPU, are those of the CPU but for rounding, and verify."""
    model, records = numeric(), correlated(20_000, 3)
    there = model.to("cuda")
    found, expected = there.score(records), model.score(records)
    assert np.corrcoef(found.anomaly, expected.anomaly)[0, 1] > 0.999999
    assert np.array_equal(there.score(records[:1]).anomaly, found.anomaly[:1])
    assert scored(model.calibration, model.scorer.panel, raw_scores(there.scorer, records)).anomaly == pytest.approx(
        found.anomaly
    )
    there.verify()


def test_on_the_cpu_the_kernel_scores():
    """A model on the CPU has no scorer by tensors."""
    assert numeric().device_scorer is None
