"""What every model promises: the checks are made for each architecture, view, mode and kind of feature there is."""

import numpy as np
import pytest
from small_models import CASES

from stream_detector import DetectorModel
from stream_detector.gan.networks import ARCHITECTURES
from stream_detector.gan.settings import Architecture

FAR = 1_000.0  # times the spread of a normal feature, and more
FEW = 40

every_case = pytest.mark.parametrize("case", CASES)


def scores_of(model, records):
    """Opinions and anomaly scores [record, score]."""
    return model.score(records).columns()


def far_off(records):
    """The records with their first feature, a number in every case, far from normal."""
    moved = np.nan_to_num(records)
    moved[:, 0] += FAR
    return moved


def test_every_architecture_can_be_chosen():
    """What the configuration names is what the networks know."""
    assert Architecture.__args__ == tuple(ARCHITECTURES)


@every_case
def test_a_saved_model_is_the_model(case):
    """Read back from its bytes a model has the version, the schema and, to the bit, the scores it had, and verifies."""
    model, records = CASES[case]()
    again = DetectorModel.from_bytes(model.to_bytes(), device="cpu")
    assert (again.version, again.schema, again.config) == (model.version, model.schema, model.config)
    assert np.array_equal(scores_of(again, records[:FEW]), scores_of(model, records[:FEW]))
    assert again.to_bytes() == model.to_bytes()
    again.verify()


@every_case
def test_scores_are_nines(case):
    """Normal, wild and incomplete records score finite, 0 or more, in float32 of 6 significant digits."""
    model, records = CASES[case]()
    gaps = records[:FEW].copy()
    gaps[np.arange(FEW), np.arange(FEW) % gaps.shape[1]] = np.nan
    scores = scores_of(model, np.concatenate((records, far_off(records[:FEW]), gaps)))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert all(np.float32(f"{score:.6g}") == score for score in scores[::50].ravel())


@every_case
def test_a_record_scores_the_same_in_any_batch_and_order(case):
    """Alone, in sevens, or among others in another order: the same bits."""
    model, records = CASES[case]()
    records = np.concatenate((records[:FEW], far_off(records[FEW : 2 * FEW])))
    whole = scores_of(model, records)
    order = np.random.default_rng(0).permutation(len(records))
    assert np.array_equal(scores_of(model, records[order]), whole[order])
    for size in (1, 7):
        parts = [scores_of(model, records[at : at + size]) for at in range(0, len(records), size)]
        assert np.array_equal(np.concatenate(parts), whole)


@every_case
def test_higher_is_more_anomalous(case):
    """Records far from normal score above normal ones, and a smaller rate asks for a higher threshold."""
    model, records = CASES[case]()
    normal, far = model.score(records[:200]), model.score(far_off(records[:200]))
    assert np.median(far.anomaly) > np.quantile(normal.anomaly, 0.95)
    assert far.flagged(0.1).mean() > normal.flagged(0.1).mean()
    thresholds = [model.threshold(rate) for rate in (0.1, 0.01, 0.001)]
    assert thresholds == sorted(thresholds)
    assert np.array_equal(normal.flagged(0.1), normal.anomaly > np.float32(thresholds[0]))


@every_case
def test_an_explanation_is_shares_of_one(case):
    """Every judged feature has a share of 0 or more, the greatest first, and together they are 1."""
    model, records = CASES[case]()
    judged = {feature.name for feature in model.schema.features if not feature.context}
    for explanation in model.explain(far_off(records[:5])):
        shares = [feature.contribution for feature in explanation.features]
        assert {feature.name for feature in explanation.features} == judged
        assert min(shares) >= 0
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
