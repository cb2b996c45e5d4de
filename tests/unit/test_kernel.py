"""The compiled kernel beside the tensors that serve other devices."""

import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_models import CASES, correlated, numeric

from stream_detector.gan.settings import InversionSettings
from stream_detector.scoring.compiled.layout import Inputs, search_state
from stream_detector.scoring.device import DeviceScorer
from stream_detector.scoring.expectation import expected

CLOSE = 2e-4  # of raw scores, which are logarithms: the two add up in another order


@pytest.mark.parametrize("case", CASES)
def test_kernel_and_tensors_agree(case):
    """On whatever networks and features, the kernel's raw scores are those of the tensors.

    At a kink of a rectifier rounding decides whether a step is taken whole or shortened: one record in 500 may end
    a thousandth beside.
    """
    model, records = CASES[case]()
    scorer = model.scorer
    by_kernel = scorer.raw(records).table
    by_tensors = DeviceScorer.raw(scorer, tile=256)(records).T
    assert np.isfinite(by_kernel).all()
    apart = np.abs(by_kernel - by_tensors).max(axis=1) / (1 + np.abs(by_tensors).max())
    assert (apart >= CLOSE).mean() < 1 / 500
    assert apart.max() < 1e-3


@pytest.mark.parametrize("case", CASES)
def test_kernel_and_tensors_expect_the_same(case):
    """On whatever networks and features, what the kernel expects a record to be is what the tensors do."""
    model, records = CASES[case]()
    scorer, normalised = model.scorer, model.scorer.normaliser(records)
    arrays = map(torch.from_numpy, (normalised.views, normalised.context, normalised.present))
    by_tensors = expected(scorer.gan, scorer.memory, scorer.residual_rms, *arrays).numpy()
    assert np.abs(scorer.expected_columns(normalised) - by_tensors).max() < CLOSE * (1 + np.abs(by_tensors).max())


def test_a_record_is_expected_to_be_the_same_in_any_batch():
    """An explanation does not depend on which other records are explained with it, to the bit."""
    scorer, records = numeric().scorer, correlated(700, 3)
    together = scorer.expected_columns(scorer.normaliser(records))
    for at in (0, 1, 399, 699):
        alone = scorer.expected_columns(scorer.normaliser(records[at : at + 1]))
        assert (alone[:, 0] == together[:, at]).all()


def test_records_do_not_find_themselves():
    """A kept record that is told to leave itself out is judged by its neighbours, by the kernel as by the tensors."""
    scorer = numeric().scorer
    own = np.arange(len(scorer.kept))
    left_out, found = scorer.raw(scorer.kept, own).table, scorer.raw(scorer.kept).table
    by_tensors = DeviceScorer.raw(scorer, tile=256)(scorer.kept, own).T
    assert (left_out[:, 1] > found[:, 1]).all()
    assert np.abs(left_out - by_tensors).max() < CLOSE * (1 + np.abs(by_tensors).max())


def test_the_nearest_are_the_nearest():
    """What the kernel calls near lies, by half a logarithm, as far as the nearest kept record does."""
    scorer, records = numeric().scorer, correlated(200, 9)
    normalised = scorer.normaliser(records)
    complete = normalised.present.all(1)
    apart = torch.cdist(torch.from_numpy(normalised.views).double(), scorer.memory.records.double())[0]
    squared = apart.min(1).values.numpy() ** 2 / normalised.views.shape[2]
    gauge = scorer.gan.gauge
    expected = np.log(squared + float(gauge.floor)) / 2 - float(gauge.centre)
    assert np.abs(scorer.raw(records)["nearness"][complete, 0] - expected[complete]).max() < 1e-4


def test_threads_do_not_disturb_each_other():
    """Several threads score at once with one model, and each gets what it would get alone."""
    model, records = numeric(), [correlated(500, seed) for seed in range(6)]
    alone = [model.score(each).anomaly for each in records]
    found = {}

    def work(place):
        for _ in range(5):
            found[place] = model.score(records[place]).anomaly

    threads = [threading.Thread(target=work, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[place], alone[place]) for place in range(6))


@pytest.mark.parametrize("width", [0.1, 1.0, 30.0])
def test_more_steps_never_raise_the_objective(width):
    """Whatever the record, every further step of the kernel leaves the objective as it is or lowers it."""
    scorer = numeric().scorer
    normalised = scorer.normaliser(correlated(200, 8) * np.float32(width))
    own, everyone = np.full(200, -1), np.full(1, -np.inf)
    objectives = []
    for steps in (1, 2, 3, 5, 9):
        scorer.kernel(Inputs.of(normalised, own), everyone, InversionSettings(steps=steps))
        objectives.append(search_state(scorer.kernel.workspaces[-1]).objective[:200].copy())
    for fewer, more in pairwise(objectives):
        assert (more <= fewer).all()
    assert objectives[-1].mean() < objectives[0].mean()


def test_scoring_changes_nothing_of_the_model():
    """The kernel writes to no array of the networks or the memory."""
    scorer = numeric().scorer
    scorer.raw(correlated(10))
    kernel = scorer.kernel
    parts = [*kernel.autoencoder.generator, *kernel.autoencoder.encoder, *kernel.discriminators.layers]
    arrays = [part for part in (*parts, *kernel.kept) if isinstance(part, np.ndarray)]
    before = [array.copy() for array in arrays]
    scorer.raw(correlated(300, 4) * 5)
    assert all(np.array_equal(array, was) for array, was in zip(arrays, before, strict=True))
