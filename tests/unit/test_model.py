"""The fitted model as its users see it."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import MIXED, QUICK, correlated, mixed, mixed_rows, numeric

from stream_detector import DetectorModel, Feature, FeatureSchema, Kind, ModelConfig, ModelSettings, fit
from stream_detector.errors import DataError, ModelNotFoundError

ROWS = 300  # more than a tile, and no multiple of one
BATCH = correlated(ROWS, 11) * np.linspace(0.5, 20, ROWS, dtype=np.float32)[:, None]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def scores_of(model, records):
    scores = model.score(records)
    return np.stack((scores.inversion, scores.discriminator, scores.anomaly), axis=1)


@pytest.mark.parametrize("screen", [0.0, 0.9])
def test_a_record_scores_the_same_alone_in_any_batch_and_with_any_threads(threads, screen):
    """Alone, in batches of any size and with one or two threads, a record's scores are the same bits."""
    model = numeric(screen=screen)
    whole = scores_of(model, BATCH)
    for size in (1, 7, 64, 257):
        starts = range(0, ROWS if size > 1 else 60, size)
        parts = np.concatenate([scores_of(model, BATCH[first : first + size]) for first in starts])
        assert np.array_equal(parts, whole[: len(parts)])
    if threads == 1:
        torch.set_num_threads(2)
        assert np.array_equal(scores_of(model, BATCH), whole)


@given(st.randoms(use_true_random=False), st.integers(1, ROWS))
@settings(max_examples=20, deadline=None)
def test_a_record_scores_the_same_in_any_order(random, count):
    """Any selection of records in any order has, record by record, the scores of the whole batch."""
    order = random.sample(range(ROWS), count)
    whole = scores_of(numeric(), BATCH)
    assert np.array_equal(scores_of(numeric(), BATCH[order]), whole[order])


@given(st.lists(st.lists(st.floats(width=32, allow_infinity=False), min_size=6, max_size=6), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_scores_are_finite_whatever_comes(rows):
    """Any finite numbers and gaps score finite, 0 or more, in float32 of 6 digits."""
    scores = scores_of(numeric(), np.array(rows, dtype=np.float32))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


def test_farther_is_more_anomalous():
    """As one feature moves away from normal, the anomaly score rises and goes on rising far out."""
    rows = np.repeat(np.nan_to_num(correlated(1, 12)), 8, axis=0)
    rows[:, 1] = 10.0 ** np.arange(1, 9)
    scores = numeric().score(rows).anomaly
    assert (np.diff(scores) > 0).all()
    assert scores[0] > 2


def test_anomalies_score_above_normal_records():
    """Records whose features no longer belong together score above most normal ones."""
    normal, broken = correlated(300, 20), correlated(300, 21)
    broken[:, 2] = -broken[:, 2]
    low, high = numeric().score(normal).anomaly, numeric().score(broken).anomaly
    assert (high[:, None] > low[None]).mean() > 0.8


def test_mappings_and_matrices_score_alike():
    """Feature mappings score what their encoded matrix scores."""
    rows = [{f"x{c}": None if np.isnan(v) else float(v) for c, v in enumerate(row)} for row in correlated(20, 3)]
    assert np.array_equal(scores_of(numeric(), rows), scores_of(numeric(), correlated(20, 3)))


def test_save_and_load_keep_scores_and_version(tmp_path):
    """A model loaded from its file has the version and, bit for bit, the scores of the saved one."""
    path = tmp_path / "a.safetensors"
    mixed().save(path)
    again = DetectorModel.load(path, device="cpu")
    rows = mixed_rows(50, 9)
    assert again.version == mixed().version
    assert np.array_equal(scores_of(again, rows), scores_of(mixed(), rows))
    assert again.schema == mixed().schema
    assert list(tmp_path.iterdir()) == [path]


def test_lineage_travels_and_changes_the_version():
    """Lineage is read back as given, and a model with other lineage is another version."""
    made = mixed().with_lineage({"topic": "telemetry", "offsets": {"0": [1, 9]}})
    again = DetectorModel.from_bytes(made.to_bytes(), device="cpu")
    assert again.lineage == {"topic": "telemetry", "offsets": {"0": [1, 9]}}
    assert again.version == made.version != mixed().version


def test_a_missing_file_is_named():
    """Loading a file that is not there says which, and is a ModelNotFoundError."""
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        DetectorModel.load("no-such-model")


@pytest.mark.thorough
def test_context_decides_what_is_normal():
    """The same load is normal by day and anomalous by night, when the phase is context."""
    rng = np.random.default_rng(0)
    phase = rng.integers(0, 2, 3000)
    load = np.where(phase == 0, 20, 80) + rng.normal(0, 2, 3000)
    schema = FeatureSchema(
        (
            Feature("load"),
            Feature("heat"),
            Feature("phase", Kind.CATEGORICAL, context=True, vocabulary=("day", "night")),
        )
    )
    matrix = np.stack((load, load / 2 + rng.normal(0, 1, 3000), phase), axis=1)
    model = fit(matrix, schema=schema, config=ModelConfig(model=ModelSettings(steps=300)), device="cpu")
    as_night, as_day = model.score([[80, 40, 1], [80, 40, 0]]).anomaly
    assert as_day > as_night + 1
    assert [f.name for f in model.explain([[80, 40, 0]])[0].features] != ["phase"]


@pytest.mark.thorough
def test_the_hour_decides_what_is_normal():
    """The same load is normal at one hour and anomalous at another, by either opinion alone."""
    rng = np.random.default_rng(0)
    hour = rng.uniform(0, 24, 3000)
    wave = np.sin(2 * np.pi * hour / 24)
    matrix = np.stack((50 + 30 * wave + rng.normal(0, 1, 3000), 20 - 5 * wave + rng.normal(0, 1, 3000), hour), axis=1)
    schema = FeatureSchema((Feature("load"), Feature("heat"), Feature("hour", Kind.CYCLIC, context=True, period=24.0)))
    model = fit(matrix, schema=schema, config=ModelConfig(model=ModelSettings(steps=500)), device="cpu")
    scores = model.score([[80, 15, 6], [80, 15, 18]])
    for opinion in (scores.inversion, scores.discriminator, scores.anomaly):
        assert opinion[0] < 2 < opinion[1]


@pytest.mark.thorough
@pytest.mark.parametrize(("rows", "columns", "most"), [(40, 3, 0.01), (60, 3, 0.01), (200, 30, 0.003)])
def test_few_records_make_a_model_that_leaves_new_normal_ones_alone(rows, columns, most):
    """Fitted on few records, a model flags few new normal ones at 1 in 1,000, and all that are far out."""
    rng = np.random.default_rng(rows)
    model = fit(rng.normal(size=(rows, columns)), config=ModelConfig(model=QUICK), device="cpu")
    new = rng.normal(size=(20_000, columns))
    assert model.score(new).flagged(0.001).mean() <= most
    assert model.score(new[:200] + 100).flagged(0.001).all()


def test_a_rate_is_a_threshold():
    """`threshold` says from which score on `flagged` flags, and a rate that is none is an error that names it."""
    scores = numeric().score(BATCH)
    flagged = scores.flagged(0.01)
    assert numeric().threshold(0.01) == 2.0
    assert np.array_equal(flagged, scores.anomaly > 2.0)
    assert 0 < flagged.mean() < 1
    with pytest.raises(DataError, match=r"rate is 1\.5"):
        numeric().threshold(1.5)


@pytest.mark.parametrize("mode", ["combined", "inversion", "reconstruction", "discriminator"])
def test_every_mode_scores_by_its_opinion(mode):
    """In a one-sided mode the anomaly score orders records as that opinion does."""
    model = fit(correlated(200), config=ModelConfig(model=ModelSettings(steps=40, mode=mode)), device="cpu")
    scores = model.score(correlated(100, 5) * 3)
    opinion = {"inversion": scores.inversion, "reconstruction": scores.inversion, "discriminator": scores.discriminator}
    if mode in opinion:
        order = np.argsort(opinion[mode], kind="stable")
        assert (np.diff(scores.anomaly[order]) >= -1e-5 * scores.anomaly.max()).all()
    else:
        assert not np.array_equal(scores.anomaly, scores.inversion)


@pytest.mark.thorough
@pytest.mark.parametrize(("rows", "columns"), [(60, 2), (60, 300), (400, 40)])
def test_small_and_wide_data_fit(rows, columns):
    """From 60 rows and with more features than rows a model is fitted that scores finite."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(rows, columns))
    matrix[:, 0] = rng.integers(0, 2, rows)
    matrix[:, 1] = 5
    model = fit(matrix, config=ModelConfig(model=ModelSettings(steps=20)), device="cpu")
    assert np.isfinite(scores_of(model, matrix)).all()


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (np.zeros((3, 5)), "shape"),
        (np.zeros(6), "shape"),
        ([[0, 0, 0, 0, 0, np.inf]], "x5"),
        ([{"x0": "text"}], "x0"),
    ],
)
def test_records_that_do_not_fit_are_refused(records, reason):
    """Another width, infinities and wrong types are a DataError that names what is wrong."""
    with pytest.raises(DataError, match=reason):
        numeric().score(records)


@pytest.mark.thorough
def test_the_alert_rate_is_the_one_asked_for():
    """Of fresh normal records a share near p exceeds `calibration.quantile(p)`, though the model remembers normal ones."""
    model = fit(correlated(3000), config=ModelConfig(model=QUICK), device="cpu")
    fresh = model.score(correlated(20_000, 77)).anomaly
    for probability in (0.1, 0.01):
        share = float((fresh > model.calibration.quantile(probability)).mean())
        assert probability / 1.8 < share < probability * 1.8


def test_a_remembered_record_is_nearer_than_a_new_one():
    """A record kept in the memory finds itself, unless it is told which one it is."""
    scorer = numeric().scorer
    kept, own = scorer.kept[:100], np.arange(100)
    seen, hidden = scorer.raw(kept)["nearness"], scorer.raw(kept, own)["nearness"]
    assert (seen < hidden).all()


def test_no_records_no_scores():
    """An empty batch has empty scores and no explanations."""
    assert len(numeric().score(np.empty((0, 6))).anomaly) == 0
    assert numeric().explain([]) == []


def test_too_few_records_are_refused():
    """Fitting fewer than 40 records is an error that says how many are needed."""
    with pytest.raises(DataError, match="at least 40"):
        fit(np.zeros((39, 3)))


def test_codes_must_be_codes():
    """A matrix with fractions in a categorical column is refused by the feature's name."""
    with pytest.raises(DataError, match="kind"):
        fit(np.full((50, 1), 0.5), schema=FeatureSchema((Feature("kind", Kind.CATEGORICAL, vocabulary=("a",)),)))


def test_a_schema_learns_its_vocabulary():
    """Fitting mappings fills in the categories of a schema that names none."""
    assert mixed().schema.features[1].vocabulary == ("a", "b", "c")
    assert mixed().schema.matches(MIXED)


def test_importing_needs_no_broker():
    """The package imports without the Kafka client."""
    code = "import sys, stream_detector; sys.exit('confluent_kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
