"""The golden batch: a model that scores otherwise here than where it was made is found out."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from small_models import mixed, numeric

from stream_detector import DetectorModel
from stream_detector.errors import ModelFormatError
from stream_detector.golden import Golden


def test_a_model_agrees_with_itself_after_the_journey():
    """Packed and read again, with gaps and categories, a model passes its own golden batch."""
    for model in (numeric(), mixed()):
        DetectorModel.from_bytes(model.to_bytes(), device="cpu").verify()


def test_other_scores_are_refused():
    """A model whose parts no longer fit each other is refused, the scores then and now named."""
    model = numeric()
    anomaly = model.calibration.anomaly
    other = replace(model, calibration=replace(model.calibration, anomaly=replace(anomaly, scale=1.5 * anomaly.scale)))
    with pytest.raises(ModelFormatError, match=r"golden batch otherwise here: record \d+, .* nines when it was made"):
        other.verify()


def test_scores_that_are_not_numbers_are_refused():
    """A device that answers NaN does not pass."""
    with pytest.raises(ModelFormatError, match="golden batch"):
        numeric().golden.verify(lambda records: np.full((len(records), 3), np.nan, np.float32))


def test_no_record_of_the_data_is_in_the_batch():
    """Features are drawn one by one, so that an artifact tells nobody's record."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(200, 5)).astype(np.float32)
    golden = Golden.of(matrix, lambda records: np.zeros((len(records), 3), np.float32), seed=0)
    rows = {row.tobytes() for row in matrix}
    assert not [row for row in golden.records if row.tobytes() in rows]


def test_odd_columns_make_no_trouble():
    """A column of gaps, a constant one and one near the end of float32 give a finite batch without a warning."""
    matrix = np.stack([np.full(50, np.nan), np.full(50, 7.0), np.linspace(-3e38, 3e38, 50)], axis=1).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        golden = Golden.of(matrix, lambda records: np.zeros((len(records), 3), np.float32), seed=0)
    assert not np.isinf(golden.records).any()
    back = Golden.from_header(golden.to_header(), 3)
    np.testing.assert_array_equal(back.records, golden.records)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"records": [], "scores": []},
        {"records": [[1.0]], "scores": [[1.0, 1.0]]},
        {"records": [[1.0, 2.0]], "scores": [[1.0, 1.0, 1.0]]},
        {"records": [[1.0]], "scores": [[1.0, 1.0, None]]},
        {"records": [[1e39]], "scores": [[1.0, 1.0, 1.0]]},
        {"records": [["x"]], "scores": [[1.0, 1.0, 1.0]]},
        {"records": {"a": 1}, "scores": 3},
    ],
)
def test_a_header_without_a_sound_batch_is_refused(header):
    """Whatever stands there instead of a batch is one of the errors that unpacking turns into a refusal."""
    with pytest.raises((ValueError, KeyError, TypeError)), np.errstate(over="ignore"):
        Golden.from_header(header, 1)
