"""What is not there is evidence of nothing: it is refused, told, and to blame for what it raises."""

import numpy as np
import orjson
import pytest
from formats import avro_schema, avro_writer, batch, vector
from small_models import correlated, mixed, mixed_rows, numeric

from stream_detector.absence import compared, is_foreign, lacking_columns
from stream_detector.config import RecordConfig
from stream_detector.errors import DataError
from stream_detector.features import Feature, FeatureSchema, Kind
from stream_detector.records import Decoder

SCHEMA = FeatureSchema((Feature("cpu"), Feature("mem"), Feature("lat"), Feature("hour", context=True)))
ALL = np.array([True, True, True, False])


def reasons(decoder, values, usual=ALL, schema=SCHEMA):
    decoded = decoder.decode(values, schema, usual)
    assert len(decoded.features) == len(decoded.kept) == len(decoded.documents)
    return {at: why.reason for at, why in decoded.rejected.items()}


def json_values(*rows):
    return [orjson.dumps({"features": row}) for row in rows]


def test_a_record_with_nothing_that_is_judged_is_refused():
    """Other names, other case, no names, only nulls, and only context: a dead letter each, with a reason of its own."""
    rows = ({"CPU": 1, "MEM": 2}, {"pressure": 1.0}, {}, {"cpu": None}, {"hour": 5}, {"cpu": 1, "mem": 2})
    config = RecordConfig(least_present=0)
    assert reasons(Decoder(config), json_values(*rows)) == dict.fromkeys(range(5), "no-known-feature")


def test_every_format_refuses_it():
    """JSON, vectors of NaN, an Arrow row and an Avro record with nothing in it have one reason; an Arrow message names its row."""
    from confluent_kafka.schema_registry import SchemaRegistryClient

    from stream_detector.kafka.avro import AvroReader

    client = SchemaRegistryClient.new_client({"url": "mock://absence"})
    config = RecordConfig(format="avro", registry_url="mock://absence")
    write = avro_writer(client, avro_schema(("cpu", "mem", "other")))
    empty, full = {"other": 1.0}, {"cpu": 1.0, "mem": 1.0}
    for decoder, none, some in (
        (Decoder(RecordConfig()), *json_values(empty, full)),
        (Decoder(config, AvroReader(config, client)), write({"features": empty}), write({"features": full})),
        (Decoder(RecordConfig(format="float32")), vector(SCHEMA.names, empty), vector(SCHEMA.names, full)),
        (
            Decoder(RecordConfig(format="arrow")),
            batch([{"features": full}, {"features": {"cpu": None}}]),
            batch([{"features": full}]),
        ),
    ):
        assert reasons(decoder, [some, none, some]) == {1: "no-known-feature"}
    arrow = Decoder(RecordConfig(format="arrow"))
    (why,) = arrow.decode([batch([{"features": full}, {"features": empty}])], SCHEMA).rejected.values()
    assert why.message.startswith("row 1: ")
    assert "'other'" in why.message


@pytest.mark.parametrize(("least", "refused"), [(0.0, []), (0.5, [2]), (0.6, [2]), (0.7, [1, 2]), (1.0, [1, 2])])
def test_the_least_share_is_of_features_that_are_nearly_always_there(least, refused):
    """`record.least_present` counts them alone: what fitting often missed may lack, and makes up for nothing."""
    rows = ({"cpu": 1, "mem": 1, "lat": 1}, {"cpu": 1, "lat": 1, "hour": 1}, {"mem": 1, "hour": 1})
    decoder = Decoder(RecordConfig(least_present=least))
    assert reasons(decoder, json_values(*rows)) == dict.fromkeys(refused, "too-few-features")
    assert not reasons(decoder, json_values(*rows), usual=np.zeros(4, dtype=np.bool_))


def test_a_model_knows_which_features_are_nearly_always_there():
    """Those that at most a tenth of its normal records lack; the gaps of fitting are not held against a record."""
    usual = dict(zip(mixed().schema.names, mixed().usual_features, strict=True))
    assert usual == {"load": True, "host": True, "hour": True, "fixed": True, "spare": False}


def test_the_reason_names_both_sides_and_the_nearest_spelling():
    """What is not there is named with what it may be called now, whatever its case, and odd names are made safe."""
    told = compared(SCHEMA, ["CPU", "mem_mb", "lat", "\x1b[31mred"])
    assert "'cpu' (is it 'CPU'?)" in told
    assert "'mem' (is it 'mem_mb'?)" in told
    assert "'lat'" not in told
    assert "\x1b" not in told


def test_records_are_foreign_when_more_than_half_is_not_there():
    """Half of the features is enough to be of the same kind; more names do not matter."""
    assert not is_foreign(SCHEMA, {"cpu", "mem", "x", "y", "z"})
    assert is_foreign(SCHEMA, {"cpu", "x", "y", "z"})


def test_a_table_of_other_columns_is_refused_and_one_that_lacks_some_is_told(tmp_path):
    """More than half absent is an error that names both; fewer are named; none is nothing to say."""
    with pytest.raises(DataError, match=r"'cpu' \(is it 'Cpu'\?\).*instead 'Cpu'"):
        lacking_columns(SCHEMA, ["Cpu"], tmp_path)
    assert "'lat' (is it 'lat_ms'?)" in (lacking_columns(SCHEMA, ["cpu", "mem", "hour", "lat_ms"], tmp_path) or "")
    assert lacking_columns(SCHEMA, [*SCHEMA.names, "more"], tmp_path) is None


def test_a_missing_feature_is_to_blame_for_what_it_raises():
    """Of records that are normal with a value and unusual without it, nearly all are explained by its absence first."""
    model, rows = numeric(), correlated(400, 5)
    dropped = np.arange(len(rows)) % 5  # the last feature has gaps of its own
    gappy = rows.copy()
    gappy[np.arange(len(rows)), dropped] = np.nan
    before, after = model.score(rows).anomaly, model.score(gappy).anomaly
    raised = np.flatnonzero((before < 1) & (after > before + 1))
    assert len(raised) >= 10
    explained = model.explain(gappy[raised])
    firsts = [each.features[0] for each in explained]
    right = [first.name == f"x{dropped[at]}" for at, first in zip(raised, firsts, strict=True)]
    assert np.mean(right) >= 0.9
    blamed = [first for first, is_right in zip(firsts, right, strict=True) if is_right]
    assert {(first.value, first.direction) for first in blamed} == {(None, "missing")}
    assert all(sum(f.contribution for f in each.features) == pytest.approx(1) for each in explained)


def test_a_gap_that_raises_nothing_has_no_blame():
    """Beside one wild value, a feature that is missing has next to nothing of the surprise."""
    rows = correlated(50, 6)
    rows[:, 0] += 20
    rows[:, 1] = np.nan
    for explanation in numeric().explain(rows):
        assert explanation.features[0].name == "x0"
        assert next(f.contribution for f in explanation.features if f.name == "x1") < 0.2


def test_explaining_together_is_explaining_alone():
    """A record with gaps is explained the same to the bit in any batch."""
    rows = correlated(40, 7)
    rows[np.random.default_rng(0).random(rows.shape) < 0.3] = np.nan
    rows[:, 0] = 1.0
    assert [numeric().explain(row[None])[0] for row in rows] == numeric().explain(rows)


@pytest.mark.parametrize(
    ("host", "shown"),
    [("intruder", "intruder"), ("x" * 200, "x" * 99 + "…"), ("a\x1b[31m\u202eb", "a\\x1b[31m\\u202eb")],
)
def test_a_category_never_seen_keeps_its_name(host, shown):
    """Its real text is explained, harmless to a terminal, and cut where it is long."""
    first = mixed().explain([mixed_rows(1, 2)[0] | {"host": host}])[0].features[0]
    assert (first.name, first.value, first.direction) == ("host", shown, "unexpected")


def test_every_format_names_a_category_never_seen():
    """Documents of decoded rows tell their categories alike, also at a dotted path and in the record itself."""
    schema = FeatureSchema((Feature("load"), Feature("host", Kind.CATEGORICAL, vocabulary=("a",))))
    row = {"load": 1.0, "host": "new"}
    for path, document in (("features", {"features": row}), ("data.features", {"data": {"features": row}}), ("", row)):
        for decoder, value in (
            (Decoder(RecordConfig(features_path=path)), orjson.dumps(document)),
            (Decoder(RecordConfig(features_path=path, format="arrow")), batch([document])),
        ):
            decoded = decoder.decode([value], schema)
            assert decoder.category(decoded.documents[0], "host") == "new"
            assert decoder.category(decoded.documents[0], "load") is None


def test_scoring_a_table_of_other_columns_is_an_error(command, tmp_path):
    """`score` writes nothing for it, exits with 3 and names both sides; a table that lacks some is scored, and told which."""
    numeric().save(model := tmp_path / "m.safetensors")
    other, part, out = tmp_path / "other.csv", tmp_path / "part.csv", tmp_path / "out.csv"
    other.write_text("X0,pressure\n1,2\n3,4\n")
    part.write_text("x0,x1,x2,x3,X4\n" + "0.1,0.2,0.3,0.4,0.5\n" * 3)
    code, _, err = command("score", model, other, "--out", out)
    assert (code, out.exists()) == (3, False)
    assert "'x0' (is it 'X0'?)" in " ".join(err.split())
    code, _, err = command("score", model, part, "--out", out)
    assert (code, out.exists()) == (0, True)
    assert "'x4' (is it 'X4'?), 'x5' not there" in " ".join(err.split())


def test_mappings_without_a_known_name_are_no_records():
    """In Python, too, other names are an error instead of one score for all; a gap in one record is none."""
    with pytest.raises(DataError, match=r"is it 'LOAD'"):
        mixed().score([{"LOAD": 1.0}, {"other": 2.0}])
    assert len(mixed().score([{"load": 50.0}, {}]).anomaly) == 2
