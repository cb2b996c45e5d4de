"""What every record format promises: the checks are made for each that can be configured, without naming it."""

from functools import cache

import numpy as np
import pytest
from foreign_text import HOSTILE, hidden
from formats import FORMATS, wire
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_detector.features import Feature, FeatureSchema, Kind, encode

NUMBERS, TEXTS = ("a", "b", "c", "d"), ("k",)
REQUIRED = FeatureSchema((Feature("a", required=True), *map(Feature, NUMBERS[1:])))
CATEGORY = Feature("k", Kind.CATEGORICAL, vocabulary=("x", "y"))
TIME = 1_700_000_000_123
NOISE = (
    b"",
    b"\0",
    b"{",
    b"[" * 5_000,
    b"null",
    b'{"features": 7}',
    b"\xff" * 33,
    bytes(range(256)),
    b"\0\0\0\0\1" * 9,
)

every_format = pytest.mark.parametrize("name", FORMATS)


@cache
def made(name):
    """The wire of a format, and the schema of all that it can carry."""
    each = wire(name, NUMBERS, TEXTS)
    return each, REQUIRED if each.nameless else FeatureSchema((*REQUIRED.features, CATEGORY))


def row(at, **changes):
    """A record whose features tell its number; None leaves a feature out."""
    features = {"a": float(at), "b": at / 2, "c": -float(at), "d": 0.1 * at, "k": "xy"[at % 2], **changes}
    return {"id": f"r{at}", "entity": f"e{at}", "time": TIME + at, "features": features}


def written(each, rows):
    return [each.write(one) for one in rows]


@every_format
def test_a_batch_reads_as_its_records_one_by_one(name):
    """However a batch is cut, every record gives the same row, in order, and as many documents as rows."""
    each, schema = made(name)
    values = written(each, [row(at, **({"b": None} if at % 3 == 0 else {})) for at in range(40)])
    whole = each.decoder().decode(values, schema)
    assert whole.features.dtype == np.float32
    assert whole.features[:, 0].tolist() == whole.kept == list(range(40))
    assert (len(whole.documents), whole.rejected) == (40, {})
    for size in (1, 7):
        parts = [each.decoder().decode(values[at : at + size], schema).features for at in range(0, 40, size)]
        assert np.array_equal(np.concatenate(parts), whole.features, equal_nan=True)


@every_format
def test_what_is_scored_is_what_is_fitted_on(name):
    """Records read as objects, for a fit, encode to the matrix that decoding them gives."""
    each, schema = made(name)
    values = written(each, [row(1), row(2, c=None), row(3, b=1e30)])
    read = each.decoder().read(values, schema)
    assert read.kept == [0, 1, 2]
    expected = each.decoder().decode(values, schema).features
    assert np.array_equal(encode(schema, read.features).matrix, expected, equal_nan=True)


@every_format
def test_the_matrix_is_that_of_json(name):
    """The same records give the matrix, and where they carry names the identities, that their JSON gives."""
    each, schema = made(name)
    plain, rows = wire("json", NUMBERS, TEXTS), [row(at) for at in range(5)] + [row(5, d=None, k="new")]
    found, expected = (one.decoder().decode(written(one, rows), schema) for one in (each, plain))
    assert np.array_equal(found.features, expected.features, equal_nan=True)
    names = [each.decoder().identity(document) for document in found.documents]
    assert names == [
        (None, None, None) if each.nameless else plain.decoder().identity(document) for document in expected.documents
    ]


@every_format
def test_a_missing_feature_is_nan(name):
    """A feature that is not there is NaN in its column, and the record is kept."""
    each, schema = made(name)
    decoded = each.decoder().decode(written(each, [row(3, b=None)]), schema)
    assert decoded.kept == [0]
    assert np.isnan(decoded.features[0]).tolist() == [at == 1 for at in range(len(schema.features))]


@every_format
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"a": None}, "missing-feature"),
        ({"b": 1e300}, "non-finite"),
        ({"b": None, "c": None, "d": None}, "too-few-features"),
    ],
)
def test_a_record_that_cannot_be_used_has_a_reason_and_harms_no_other(name, changes, reason):
    """Without a required feature, with a number beyond float32, or with too few features: a value, and no exception."""
    each, schema = made(name)
    usual = np.array([feature.kind is not Kind.CATEGORICAL for feature in schema.features])
    values = written(each, [row(1), row(2, **changes), row(3)])
    decoded = each.decoder().decode(values, schema, usual)
    assert list(decoded.rejected) == [1]
    assert decoded.rejected[1].reason == reason
    named = {name for name in NUMBERS if repr(name) in decoded.rejected[1].message}
    assert named == set(changes), "the features at fault, and no others, are named"
    assert (decoded.kept, decoded.features[:, 0].tolist()) == ([0, 2], [1.0, 3.0])


@every_format
def test_what_is_no_value_or_too_large_has_its_reason(name):
    """A tombstone and a value beyond `record.max_bytes` are told by those names, whatever the format."""
    each, schema = made(name)
    good = each.write(row(1))
    most = max(len(good), 64)
    decoded = each.decoder(max_bytes=most).decode([good, None, b"x" * (most + 1), good], schema)
    assert {at: why.reason for at, why in decoded.rejected.items()} == {1: "tombstone", 2: "too-large"}
    assert decoded.kept == [0, 3]


@every_format
@given(st.sampled_from(NOISE) | st.binary(max_size=200), st.integers(0, 10_000), st.booleans())
@settings(max_examples=60)
def test_bad_bytes_are_a_value(name, noise, at, inside):
    """Whatever bytes come, alone or inside a good value, give rows or a reason, and the records beside them stay."""
    each, schema = made(name)
    good = each.write(row(1))
    at %= len(good)
    bad = good[:at] + noise + good[at + len(noise) :] if inside else noise
    decoded = each.decoder().decode([good, bad, good], schema)
    assert set(decoded.kept) | set(decoded.rejected) == {0, 1, 2}
    assert not set(decoded.kept) & set(decoded.rejected)
    assert len(decoded.features) == len(decoded.kept) == len(decoded.documents)
    assert decoded.features[0].tolist() == decoded.features[-1].tolist()
    assert not np.isinf(decoded.features).any()
    read = each.decoder().read([good, bad, good], schema)
    assert set(read.kept) | set(read.rejected) == {0, 1, 2}


@every_format
def test_hostile_text_is_carried_and_shown_escaped(name):
    """A category and names that a terminal would obey harm nothing; what is shown of them holds nothing raw."""
    each, schema = made(name)
    text = HOSTILE.replace("\udcff", "")
    rows = [row(1, k=text), row(2, k=text * 100)]
    decoded = each.decoder().decode(written(each, [one | {"id": text, "entity": text} for one in rows]), schema)
    if each.nameless:
        assert decoded.kept == [0, 1]
        return
    assert (decoded.kept, decoded.rejected[1].reason) == ([0], "string-too-long")
    shown = each.decoder().category(decoded.documents[0], "k")
    assert shown
    assert hidden(shown) == []
    assert decoded.features[0, -1] == len(CATEGORY.vocabulary)


@every_format
def test_nothing_decodes_to_nothing(name):
    """No values give no rows, of the schema's width."""
    each, schema = made(name)
    decoded = each.decoder().decode([], schema)
    assert decoded.features.shape == (0, len(schema.features))
    assert (decoded.kept, len(decoded.documents), decoded.rejected) == ([], 0, {})
