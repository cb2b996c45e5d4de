"""What a feature is, is decided by most records, and told."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.cli.common import show_features
from stream_detector.config import Config
from stream_detector.errors import DataError
from stream_detector.features import Feature, FeatureSchema, Kind, encode
from stream_detector.fitting.profiling import barred, described, learn


def rows(count=500, **columns):
    """Records with a number `cpu`, and each of `columns` made from the record's number."""
    return [{"cpu": float(n % 97), **{name: make(n) for name, make in columns.items()}} for n in range(count)]


def kinds(learnt):
    return {feature.name: feature.kind.value for feature in learnt.schema.features}


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda n: n % 2 == 0, "numeric"),
        (lambda n: str(n / 7), "numeric"),
        (lambda n: "N/A" if n % 3 == 0 else str(n), "numeric"),
        (lambda n: "broken" if n == 17 else n, "numeric"),
        (lambda n: "broken" if n % 3 == 0 else n, "numeric"),
        (lambda n: "broken" if n % 3 == 0 else str(n), "numeric"),  # too many different texts for categories
        (lambda n: "true" if n % 2 else "false", "numeric"),
        (lambda n: "GET" if n % 2 else "POST", "categorical"),
        (lambda n: 404 if n == 17 else "GET", "categorical"),
        (lambda n: "idle" if n % 4 == 0 else str(n % 4), "categorical"),
        (lambda n: None if n % 3 else n, "numeric"),
        (lambda n: 10**400 if n == 17 else n, "numeric"),
    ],
)
def test_most_values_decide_the_kind(make, kind):
    """Numbers, booleans and text that reads as numbers are numeric, few different texts are categories."""
    assert kinds(learn(rows(x=make))) == {"cpu": "numeric", "x": kind}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda n: f"host-{n}", "near-unique text, 500 different values such as 'host-0'"),
        (lambda n: datetime(2026, 1, 1, tzinfo=UTC).isoformat() + str(n), "near-unique"),
        (lambda n: datetime(2026, 1, 1, 0, n % 60, tzinfo=UTC), "times"),
        (lambda n: {"host": n}, "dict"),
        (lambda _: None, "all missing"),
        (lambda _: "N/A", "all missing"),
        (lambda n: 1.0 if n == 17 else None, "in 1 of 500 records only"),
    ],
)
def test_what_can_be_no_feature_is_left_out_with_its_reason(make, why):
    """Text of nearly every record's own, times, objects, nothing at all and a single value are no features."""
    learnt = learn(rows(x=make))
    assert kinds(learnt) == {"cpu": "numeric"}
    assert why in learnt.left_out["x"]


def test_a_stray_field_of_one_record_is_no_feature():
    """A name that a single record has is told, not learnt."""
    records = rows()
    records[17]["stray"] = 1.0
    learnt = learn(records)
    assert kinds(learnt) == {"cpu": "numeric"}
    assert learnt.left_out == {"stray": "in 1 of 500 records only"}


def test_odd_values_are_missing_and_counted():
    """A word among numbers becomes a gap; how many there are and where the first stands is told."""
    learnt = learn(rows(x=lambda n: "broken" if n in {17, 30} else n), where=lambda row: f"line {row + 2}")
    matrix = encode(learnt.schema, learnt.rows).matrix
    assert np.flatnonzero(np.isnan(matrix[:, 1])).tolist() == [17, 30]
    assert learnt.odd == {"x": "2 odd, taken as missing: 'broken' in line 19"}
    note = described(learnt, matrix)["features"][1]
    assert (note["coverage"], note["distinct"], note["low"], note["high"]) == (0.996, 498, 0.0, 499.0)
    assert "2 odd" in note["note"]


@pytest.mark.parametrize("path", ["features", ""])
def test_what_the_configuration_names_is_no_feature(path):
    """Id, time and entity of flat records, and what `exclude` names, are no features; inside an object of their
    own, features may be called as they like.
    """
    config = Config(record={"features_path": path}, exclude=["spare"])
    learnt = learn(
        rows(id=lambda n: n, entity=lambda _: "web", spare=lambda n: n), left_out=barred(config, flat=not path)
    )
    assert kinds(learnt) == (
        {"cpu": "numeric"} if not path else {"cpu": "numeric", "id": "numeric", "entity": "categorical"}
    )


def test_declared_features_are_those_and_of_that_kind():
    """A declared category keeps its texts though they are numbers; what is not declared is left out, and said."""
    declared = FeatureSchema((Feature("cpu"), Feature("port", Kind.CATEGORICAL)))
    learnt = learn(rows(port=lambda n: str(n % 3), other=lambda n: n), declared)
    assert learnt.schema.features[1].vocabulary == ("0", "1", "2")
    assert learnt.left_out == {"other": "not declared under 'features:'"}
    with pytest.raises(
        DataError, match=r"'cpu' is declared numeric and holds nothing of that kind: 3 odd.*'fast' in record 0"
    ):
        learn([{"cpu": "fast"}] * 3, FeatureSchema((Feature("cpu"),)))


def test_a_constant_and_what_only_rises_are_noted(capsys):
    """A feature that never varies is kept, and one that looks like a time; the lineage and the printed table say why."""
    learnt = learn(rows(fixed=lambda _: 7, mode=lambda _: "on", clock=lambda n: 1000 + n))
    assert set(kinds(learnt)) == {"cpu", "fixed", "mode", "clock"}
    told = described(learnt, encode(learnt.schema, learnt.rows).matrix)
    assert told["constant"] == ["fixed", "mode"]
    notes = {f["name"]: f["note"] for f in told["features"]}
    assert notes["cpu"] == ""
    assert notes["fixed"] == notes["mode"] == "constant, kept as a feature: any other value will be unlike normal"
    assert "rises" in notes["clock"]
    show_features(told)
    assert "constant, kept" in capsys.readouterr().out


def test_nothing_left_names_the_reasons():
    """Records in which no column can be a feature are an error with each column's reason."""
    with pytest.raises(DataError, match="'id': near-unique"):
        learn([{"id": f"r{n}"} for n in range(50)])


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=1),
    st.datetimes(),
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES), min_size=1, max_size=30))
def test_what_was_learnt_can_be_encoded(records):
    """Whatever records hold, either no column can be a feature, or every record can be used."""
    try:
        learnt = learn(records)
    except DataError:
        return
    encoded = encode(learnt.schema, learnt.rows)
    assert not encoded.rejected
    assert len(described(learnt, encoded.matrix)["features"]) == len(learnt.schema.features)
