"""A scorer is one file and one line: here is a third one, the distance from the mean of the normal records.

Everything below its registration is the promise: tensors and kernel compute it alike, it is calibrated, kept in the
artifact, weighed by modes, and told in scores, explanations and alerts.
"""

from dataclasses import replace

import numpy as np
import orjson
import pytest
import torch
from messages import Stored
from small_models import MIXED, QUICK, correlated, mixed_rows, numeric

from stream_detector import DetectorModel, ModelConfig, fit
from stream_detector.config import Config, RecordConfig
from stream_detector.detector import detect
from stream_detector.errors import ConfigError, ModelFormatError
from stream_detector.gan.settings import MODES, InversionSettings
from stream_detector.model import as_matrix
from stream_detector.records import Decoder, alert_from_json
from stream_detector.scoring import opinions
from stream_detector.scoring.compiled.arithmetic import compiled, log
from stream_detector.scoring.device import DeviceScorer
from stream_detector.scoring.inversion import FLOOR
from stream_detector.scoring.look import Look, Method, Opinion
from stream_detector.scoring.opinions import Panel, register
from stream_detector.scoring.threshold import FLAG_ALL, RollingThreshold
from stream_detector.table_scoring import score_table
from stream_detector.tables.reading import Table

# The file of a scorer ----------------------------------------------------------------------------------------------


def learn(normalised):
    return [normalised.views.mean(1)]


def by_tensors(learnt, look: Look):
    apart = ((look.records - learnt[0].unsqueeze(1)) * look.present).double()
    return (apart.square().sum(2) + FLOOR).log()


@compiled
def by_kernel(learnt, views, context, present, evidence, found):
    mean = learnt[0]
    for view in range(views.shape[0]):
        for row in range(views.shape[1]):
            total = 0.0
            for column in range(views.shape[2]):
                apart = (views[view, row, column] - mean[view, column]) * present[row, column]
                total += np.float64(apart) * np.float64(apart)
            found[view, row] = log(total + FLOOR)


MEAN_DISTANCE = Opinion(
    "mean_distance",
    weight=1.0,
    method=Method(learn, lambda sizes: [(sizes.views, sizes.columns)], by_tensors, by_kernel),
)

# -------------------------------------------------------------------------------------------------------------------

NAME = MEAN_DISTANCE.name


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    numeric()  # fitted without it, for all tests
    monkeypatch.setattr(opinions, "OPINIONS", dict(opinions.OPINIONS))
    before = list(MODES)
    register(MEAN_DISTANCE)  # the one line
    yield
    MODES[:] = before


MODELS = {}


def fitted(mode="combined"):
    """A small model with the third scorer, made once a mode."""
    if mode not in MODELS:
        settings = QUICK.model_copy(update={"mode": mode, "views": ("tamed", "soft"), "steps": 200})
        config = ModelConfig(model=settings, inversion=InversionSettings(screen=0.5))
        MODELS[mode] = fit(mixed_rows(300), MIXED, config, device="cpu")
    return MODELS[mode]


def records(seed=1):
    return as_matrix(mixed_rows(300, seed), MIXED)


def test_kernel_and_tensors_agree_on_it():
    """The scorer's raw score is the same by the compiled kernel and by tensors on a device, gaps included."""
    scorer, matrix = fitted().scorer, records()
    by_device = DeviceScorer.raw(scorer, tile=256)(matrix).T
    by_cpu = scorer.raw(matrix)
    assert by_cpu.names == ("inversion", "nearness", "distance", "verdict", NAME)
    assert by_cpu.table.shape == by_device.shape == (300, 10)
    assert np.isfinite(by_cpu[NAME]).all()
    assert np.abs(by_cpu.table - by_device).max() < 1e-3 * (1 + np.abs(by_device).max())
    assert np.array_equal(by_cpu[NAME], by_cpu.table[:, [4, 9]])


def test_a_record_has_the_same_score_in_any_batch():
    """The scorer's scores are equal to the bit alone and among others, as all scores are."""
    scorer, matrix = fitted().scorer, records()
    together = scorer.raw(matrix).table
    assert all(np.array_equal(scorer.raw(matrix[at : at + 1]).table[0], together[at]) for at in (0, 7, 299))


def test_it_is_calibrated_in_nines():
    """The opinion is a tail probability of normal records: one in ten of new ones exceeds 1 nine, and far ones do."""
    model = fitted()
    normal, far = (model.score(each).others[NAME] for each in (records(5), records(5) * np.float32(20)))
    assert 0.02 < (normal > 1).mean() < 0.25
    assert np.median(far) > 3
    assert model.score(records()).columns().shape == (300, 4)


def test_scores_on_a_device_tell_it_too():
    """Nines by tensors hold the opinion where the CPU's have it."""
    model, matrix = fitted(), records()
    found = DeviceScorer.calibrated(model.scorer, model.calibration, tile=256)(matrix)
    expected = model.score(matrix).columns().T
    assert np.abs(found - expected).max() < 1e-3 * (1 + np.abs(expected).max())


def test_an_artifact_keeps_it():
    """A model that is saved and loaded has the same version, scores to the bit, and golden batch."""
    model = fitted()
    loaded = DetectorModel.from_bytes(model.to_bytes(), "cpu")
    assert loaded.version == model.version
    assert np.array_equal(loaded.score(records()).columns(), model.score(records()).columns())
    assert loaded.golden.scores.shape[1] == 4
    loaded.verify()


def test_a_scored_table_has_a_column_of_it():
    """Scores of a table's rows are written by name, the anomaly score last among them."""
    (scored,) = score_table(fitted(), Table("rows", mixed_rows(20, 3)), Config())
    columns = scored.columns()
    assert [*columns][1:5] == ["inversion", "discriminator", NAME, "anomaly"]
    assert np.array_equal(columns[NAME], fitted().score(mixed_rows(20, 3)).others[NAME])


def test_where_it_is_not_registered_its_models_are_refused(monkeypatch):
    """A program without the scorer says which one a model needs, instead of scoring without it."""
    artifact = fitted().to_bytes()
    monkeypatch.delitem(opinions.OPINIONS, NAME)
    with pytest.raises(ModelFormatError, match=f"scorer '{NAME}', which is not registered"):
        DetectorModel.from_bytes(artifact, "cpu")


def test_its_name_is_a_mode():
    """A model whose mode is the scorer's name ranks records by its opinion alone."""
    model = fitted(NAME)
    scores = model.score(records())
    order = np.argsort(scores.others[NAME], kind="stable")
    assert (np.diff(scores.anomaly[order]) >= 0).all()
    with pytest.raises(
        ValueError, match="give one of combined, inversion, reconstruction, discriminator, mean_distance"
    ):
        QUICK.model_validate({"mode": "median_distance"})


def test_it_weighs_in_the_combined_score():
    """In the mode `combined` it has its weight; in another opinion's mode the model does without it."""
    assert dict(
        zip((each.name for each in Panel.of("combined").opinions), Panel.of("combined").weights, strict=True)
    ) == {
        "inversion": 1.0,
        "discriminator": 1.0,
        "nearness": 2.0,
        NAME: 1.0,
    }
    assert NAME not in Panel.of("discriminator").told


def test_models_without_it_stay_as_they_were():
    """A model fitted before the registration keeps its scores, and its artifact names no scorer."""
    model = numeric()
    loaded = DetectorModel.from_bytes(model.to_bytes(), "cpu")
    assert loaded.version == model.version
    assert b"scorers" not in model.to_bytes()[:4096]
    assert np.array_equal(loaded.score(correlated(50)).columns(), model.score(correlated(50)).columns())
    assert loaded.scorer.panel.told == ("inversion", "discriminator")


def test_alerts_tell_it():
    """A flagged record's alert holds the opinion, in JSON and read back, beside an explanation that sums to 1."""
    model = fitted()
    messages = [Stored(at, orjson.dumps({"features": row})) for at, row in enumerate(mixed_rows(3, 2))]
    thresholds = {("telemetry", 0): RollingThreshold(replace(FLAG_ALL, nominal=0.0))}
    alerts = detect(messages, model, thresholds, Decoder(RecordConfig())).alerts
    scores = model.score(mixed_rows(3, 2)).others[NAME]
    assert len(alerts) == 3
    for alert, score in zip(alerts, scores, strict=True):
        assert dict(alert.others)[NAME] == pytest.approx(score)
        assert orjson.loads(alert.to_json())["opinions"][NAME] == dict(alert.others)[NAME]
        assert alert_from_json(alert.to_json(), alert.key) == alert
        assert sum(part.contribution for part in alert.contributions) == pytest.approx(1)


@pytest.mark.parametrize("name", ["inversion", "combined", "reconstruction", "verdict", "anomaly", NAME])
def test_a_name_that_is_taken_is_refused(name):
    """Two scorers of one name, or one named as a mode or a raw score, are a mistake at registration."""
    with pytest.raises(ConfigError, match="already; give it another name"):
        register(Opinion(name, method=MEAN_DISTANCE.method))


def test_a_raw_score_that_nothing_computes_is_refused():
    """An opinion without a method has only the networks' raw scores."""
    with pytest.raises(ConfigError, match="raw score 'entropy' that nothing computes"):
        register(Opinion("uncertainty", {"verdict": 0.5, "entropy": 0.5}))


def test_on_a_gpu_it_is_scored_there():
    """The model moves to a device with what the scorer has learnt."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    there, matrix = fitted().to("cuda"), records()
    expected = fitted().score(matrix).columns()
    assert np.abs(there.score(matrix).columns() - expected).max() < 1e-3 * (1 + np.abs(expected).max())
