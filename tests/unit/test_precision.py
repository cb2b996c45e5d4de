"""Numbers that differ by less than a float32 tells at their size keep their differences, on every road to a model."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import QUICK, correlated, numeric

from stream_detector import DetectorModel, Feature, FeatureSchema, ModelConfig, fit
from stream_detector.config import RecordConfig
from stream_detector.features import Encoded, encode
from stream_detector.model import as_matrix
from stream_detector.records import Decoder
from stream_detector.retraining.contender import recoded

NAMES = ("northing", "bytes", "load")


def surveyed(rows, seed=0):
    """Metres with millimetres, a counter of bytes that moves by few, and a plain number: float64 [row, 3]."""
    rng = np.random.default_rng(seed)
    return np.stack(
        (4_512_345.678 + rng.normal(0, 0.005, rows), 4e12 + rng.integers(0, 2_000, rows), rng.normal(50, 5, rows)), 1
    )


def mappings(matrix):
    return [dict(zip(NAMES, row, strict=True)) for row in matrix.tolist()]


@pytest.fixture(scope="module")
def model():
    return fit(mappings(surveyed(400)), config=ModelConfig(model=QUICK), device="cpu")


def test_small_differences_at_large_numbers_are_learnt_and_explained(model):
    """Ten centimetres where millimetres are usual are flagged, and shown in full; fit knows that the feature varies."""
    new = surveyed(300, 1)
    moved = new.copy()
    moved[:, 0] += 0.1
    assert model.lineage["constant"] == []
    assert model.score(mappings(new)).flagged(0.001).mean() < 0.02
    assert model.score(mappings(moved)).flagged(0.001).mean() > 0.9
    shown = {each.name: each for each in model.explain(mappings(moved[:1]))[0].features}["northing"]
    assert shown.value == pytest.approx(moved[0, 0], abs=1e-4)
    assert shown.expected == pytest.approx(4_512_345.678, abs=0.02)


def test_every_road_gives_the_same_records(model):
    """Mappings, a matrix, JSON and Arrow become the same float32 values, and equal scores, in a loaded model as well."""
    new = surveyed(50, 2)
    rows, schema = mappings(new), model.schema
    encoded = encode(schema, rows)
    table = pa.table({"features": pa.StructArray.from_arrays([pa.array(column) for column in new.T], names=NAMES)})
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    texts = [json.dumps({"features": row}).encode() for row in rows]
    roads = (
        as_matrix(new, schema),
        Decoder(RecordConfig()).decode(texts, schema).features,
        Decoder(RecordConfig(format="arrow")).decode([stream.getvalue()], schema).features,
        encode(schema, [{**row, "more": object()} for row in rows]).matrix,
    )
    for matrix in roads:
        assert np.array_equal(matrix, encoded.matrix)
    again = DetectorModel.from_bytes(model.to_bytes(), device="cpu")
    again.verify()
    assert np.array_equal(again.score(new).anomaly, model.score(encoded).anomaly)


def test_a_matrix_is_fitted_as_its_mappings_are(model):
    """The origins of a matrix's columns are those of the same columns in mappings."""
    fitted = fit(surveyed(400), config=ModelConfig(model=QUICK), device="cpu")
    assert np.array_equal(fitted.schema.origins, model.schema.origins)
    assert (model.schema.origins != 0).tolist() == [True, True, False]


def test_ordinary_numbers_have_no_origin():
    """A model of ordinary numbers has none, and its file does not name any."""
    assert not numeric().schema.origins.any()
    assert all("origin" not in entry for entry in numeric().schema.to_dict())
    assert not FeatureSchema.numbered(6).with_origins(correlated(100).astype(np.float64).T).origins.any()


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5))
@settings(max_examples=100)
def test_records_of_one_origin_are_recoded_to_another(one, other, values):
    """Recoded from one origin to another, a value is within a float32 step of where it would lie at once."""
    source, target = (FeatureSchema((Feature("x", origin=origin),)) for origin in (one, other))
    matrices = [encode(schema, [{"x": value} for value in values]).matrix for schema in (source, target)]
    steps = np.spacing(np.abs(matrices[0])) + np.spacing(np.abs(matrices[1]))
    assert (np.abs(recoded(matrices[0], source, target) - matrices[1]) <= steps).all()


def test_encoded_records_are_taken_as_they_are(model):
    """What is encoded already has no origin subtracted again."""
    matrix = as_matrix(surveyed(5), model.schema)
    assert as_matrix(Encoded.whole(matrix), model.schema) is matrix
