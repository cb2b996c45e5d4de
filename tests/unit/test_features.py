"""Rows to matrix: every value lands where it belongs, or is refused with its reason."""

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.errors import ConfigError
from stream_detector.features import Feature, FeatureSchema, Kind, encode

SCHEMA = FeatureSchema(
    (
        Feature("load"),
        Feature("state", Kind.CATEGORICAL, vocabulary=("down", "up")),
        Feature("hour", Kind.CYCLIC, context=True, period=24),
        Feature("must", required=True),
    )
)
GOOD = {"load": 1.5, "state": "up", "hour": 3, "must": 0}

VALUES = st.one_of(
    st.floats(allow_nan=False), st.integers(), st.booleans(), st.text(max_size=5), st.none(), st.lists(st.integers())
)
ROWS = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(SCHEMA.names, VALUES)), max_size=20)


def test_values_land_in_their_columns():
    """Numbers are themselves, categories their vocabulary index, unseen ones one past the end."""
    encoded = encode(SCHEMA, [GOOD, GOOD | {"state": "sideways"}])
    assert encoded.matrix.tolist() == [[1.5, 1, 3, 0], [1.5, 2, 3, 0]]
    assert encoded.matrix.dtype == np.float32


@pytest.mark.parametrize("missing", [{}, {"load": None}, {"load": math.nan}])
def test_a_missing_value_is_nan(missing):
    """Absent, null and NaN all read as missing."""
    row = {name: value for name, value in GOOD.items() if name != "load"} | missing
    assert math.isnan(encode(SCHEMA, [row]).matrix[0, 0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"load": "fast"}, "wrong-type"),
        ({"load": "1_000"}, "wrong-type"),
        ({"load": "1e999"}, "non-finite"),
        ({"load": [1]}, "wrong-type"),
        ({"state": 1}, "wrong-type"),
        ({"load": 1e39}, "non-finite"),
        ({"load": -math.inf}, "non-finite"),
        ({"load": 10**400}, "non-finite"),
        ({"state": "x" * 257}, "string-too-long"),
        ({"must": None}, "missing-feature"),
    ],
)
def test_unusable_values_are_refused_with_their_reason(change, reason):
    """One bad row is refused by name and leaves its neighbours alone."""
    encoded = encode(SCHEMA, [GOOD, GOOD | change, GOOD])
    assert encoded.kept == [0, 2]
    assert encoded.rejected[1].reason == reason
    assert repr(next(iter(change))) in encoded.rejected[1].message


@given(ROWS)
def test_a_row_reads_the_same_alone_and_among_others(rows):
    """The fast way for whole batches and the careful way for single rows agree on everything."""
    together = encode(SCHEMA, rows)
    for position, row in enumerate(rows):
        alone = encode(SCHEMA, [row])
        if position in together.rejected:
            assert alone.rejected[0] == together.rejected[position]
        else:
            expected = together.matrix[together.kept.index(position)]
            assert np.array_equal(alone.matrix[0], expected, equal_nan=True)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"must": st.integers(-(2**40), 2**40)},
            optional={
                "load": st.none() | st.floats(-1e30, 1e30),
                "state": st.sampled_from(["up", "down", "new", None]),
            },
        ),
        min_size=1,
    )
)
def test_the_fast_way_equals_the_careful_way(rows):
    """A batch of numbers, categories and gaps converts to the same bits as row by row."""
    schema = FeatureSchema((Feature("load"), SCHEMA.features[1], SCHEMA.features[3]))
    careful = encode(schema, [*rows, {"must": "wrong"}])  # one wrong value makes it go row by row
    assert list(careful.rejected) == [len(rows)]
    assert np.array_equal(encode(schema, rows).matrix, careful.matrix, equal_nan=True)
    assert not encode(schema, rows).rejected


def test_a_schema_survives_its_json():
    """`from_dict` undoes `to_dict`, and the digest tells schemas apart."""
    again = FeatureSchema.from_dict(SCHEMA.to_dict())
    assert again == SCHEMA
    assert again.digest == SCHEMA.digest != FeatureSchema.numbered(4).digest


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("1.5", 1.5),
        (" -2e3 ", -2000.0),
        (True, 1.0),
        ("false", 0.0),
        (Decimal("0.25"), 0.25),
        (np.float32(3), 3.0),
        (np.True_, 1.0),
    ],
)
def test_what_reads_as_a_number_is_one(value, read):
    """Booleans, numbers in text, decimals and numpy's scalars are numbers, alone and among plain ones."""
    assert encode(SCHEMA, [GOOD | {"load": value}, GOOD]).matrix[:, 0].tolist() == [read, 1.5]
    assert encode(SCHEMA, [GOOD | {"load": value}, GOOD | {"load": "fast"}]).matrix[:, 0].tolist() == [read]


@pytest.mark.parametrize("text", ["", "NaN", "N/A", "null", " - "])
def test_a_text_for_nothing_is_a_missing_number(text):
    """What people write for no value is missing, and a rejection where a value is required."""
    assert math.isnan(encode(SCHEMA, [GOOD | {"load": text}]).matrix[0, 0])
    assert encode(SCHEMA, [GOOD | {"must": text}]).rejected[0].reason == "missing-feature"


def test_a_kind_may_be_given_as_text():
    """The text is the kind; one that does not exist is an error."""
    assert Feature("hour", "cyclic", period=24) == Feature("hour", Kind.CYCLIC, period=24)
    with pytest.raises(ConfigError, match="'round'; give one of numeric"):
        Feature("hour", "round")


@pytest.mark.parametrize(
    "features",
    [
        (),
        (Feature("a"), Feature("a")),
        (Feature("a", context=True),),
        (Feature("a"), Feature("h", Kind.CYCLIC)),
    ],
)
def test_a_senseless_schema_is_refused(features):
    """No features, doubled names, nothing to judge, no period: each is a configuration error."""
    with pytest.raises(ConfigError, match="features"):
        FeatureSchema(features)
