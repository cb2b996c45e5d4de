"""Fitting and scoring with contexts, from tables and arrays: rows are the log of one partition, in their order."""

import csv

import numpy as np
import pytest
from workload import MODEL_CONFIG, entity_rows

import stream_detector
from stream_detector.config import Config, ContextConfig
from stream_detector.errors import DataError
from stream_detector.fitting.fit import HeldOut
from stream_detector.retraining.first_fit import fit_file
from stream_detector.table_scoring import score_table
from stream_detector.tables.reading import open_table

SHORT = {"epoch": 400, "history": 300, "most_entities": 20}
COUNT = 900


def quiet(*_):
    pass


def configured(enabled=True, **record):
    named = {"entity_path": "host", "time_path": "when"} | record
    return Config(**MODEL_CONFIG, record=named, context=SHORT | {"enabled": enabled})


def rows(count=COUNT, seed=1):
    for entity, time, features in entity_rows(count, seed):
        yield {"host": entity, "when": time, **features}


def table(path, records):
    """A CSV file of the records; None is an empty cell."""
    records = list(records)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)
    return path


@pytest.fixture(scope="module")
def records_file(tmp_path_factory):
    return table(tmp_path_factory.mktemp("tables") / "records.csv", rows())


@pytest.fixture(scope="module")
def of_file(records_file):
    return fit_file(records_file, configured(), 0, quiet)


def arrays(count=COUNT, seed=1):
    entities, times, features = zip(*entity_rows(count, seed), strict=True)
    return list(features), list(entities), list(times)


def test_a_table_is_fitted_as_its_columns_are(of_file):
    """The columns that `record.*` names are entity and time and no features; the model is that of the same arrays."""
    features, entities, times = arrays()
    settings = ContextConfig(**SHORT)
    model = stream_detector.fit(
        features, config=stream_detector.ModelConfig(**MODEL_CONFIG), device="cpu", entity=entities, time=times,
        context=settings,
    )  # fmt: skip
    assert of_file.schema.names == ("cpu", "memory")
    assert (of_file.context.spec.entity_path, of_file.context.spec.time_path) == ("host", "when")
    ours, theirs = (each.score(features, entities, times) for each in (of_file, model))
    np.testing.assert_array_equal(ours.anomaly, theirs.anomaly)
    assert not np.isnan(ours.views["context"][-100:]).all()


def test_a_table_is_scored_as_one_log(of_file, records_file):
    """Batches of a table go on where the last one ended, and both views have a column."""
    features, entities, times = arrays()
    (scored,) = score_table(of_file, open_table(records_file), configured())
    expected = of_file.score(features, entities, times)
    assert scored.names == ("inversion", "discriminator", "anomaly", "record", "context")
    np.testing.assert_array_equal(scored.scores[:, 2], expected.anomaly)
    np.testing.assert_array_equal(scored.scores[:, 4], expected.views["context"])


def test_batches_of_a_table_go_on_with_its_contexts(of_file, records_file, monkeypatch):
    """However few rows are scored at once, the scores are equal."""
    whole = np.concatenate([each.scores for each in score_table(of_file, open_table(records_file), configured())])
    monkeypatch.setattr("stream_detector.table_scoring.BATCH", 97)
    parts = [each.scores for each in score_table(of_file, open_table(records_file), configured())]
    assert len(parts) == 10
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_row_that_cannot_be_used_is_a_hole_of_the_log(of_file, tmp_path):
    """It has no score and teaches nothing, but has its offset, by which epochs end."""
    features, entities, times = arrays()
    broken = [{**row, "cpu": "broken"} if at % 10 == 3 else row for at, row in enumerate(rows())]
    path = table(tmp_path / "broken.csv", broken)
    (scored,) = score_table(of_file, open_table(path, {"cpu"}), configured())
    kept = np.array([at for at in range(COUNT) if at % 10 != 3])
    expected = of_file.score(*([column[at] for at in kept] for column in (features, entities, times)), offset=kept)
    np.testing.assert_array_equal(scored.scores[kept, 2], expected.anomaly)
    assert np.isnan(scored.scores[3]).all()
    assert len(scored.faults) == COUNT - len(kept)


def test_an_entity_is_the_text_that_the_table_holds(tmp_path):
    """Numbers that name entities are read as text, leading zeros and all, in fitting and scoring: 03 is not 3."""
    numbered = [
        {**row, "host": row["host"] and row["host"].replace("host-", "0" * (at % 2))} for at, row in enumerate(rows())
    ]
    path = table(tmp_path / "numbered.csv", numbered)
    model = fit_file(path, configured(), 0, quiet)
    assert (model.lineage["context"]["entities"], model.lineage["context"]["records"]) == (18, COUNT)
    features, _, times = arrays()
    (scored,) = score_table(model, open_table(path, {"host"}), configured())
    expected = model.score(features, [row["host"] for row in numbered], times)
    np.testing.assert_array_equal(scored.scores[:, 4], expected.views["context"])


def test_without_paths_a_table_is_one_entity_without_a_calendar(command, tmp_path):
    """The command says so, once, with how many records had full context."""
    bare = [{name: row[name] for name in ("cpu", "memory")} for row in rows()]
    config = tmp_path / "c.yaml"
    config.write_text(
        "record: {entity_path: '', time_path: ''}\ncontext: {enabled: true, epoch: 300, history: 150}\n"
        f"model: {MODEL_CONFIG['model']}\n"
    )
    path, out = table(tmp_path / "bare.csv", bare), tmp_path / "m.safetensors"
    code, told, err = command("fit", path, "--out", out, "-c", config)
    assert code == 0, err
    (line,) = [line for line in told.splitlines() if line.startswith("context:")]
    assert "no entity column, so that a partition is one entity" in line
    assert "no time column, so that there is no calendar" in line
    assert "1 entities" in line
    model = stream_detector.DetectorModel.load(out)
    assert (model.context.spec.entity_path, model.context.spec.time_path) == (None, None)
    (scored,) = score_table(model, open_table(path), configured(entity_path="", time_path=""))
    assert (~np.isnan(scored.scores[:, 4])).sum() > COUNT / 2


def test_a_matrix_is_one_log_of_one_entity(tmp_path):
    """Columns without names name no entity and no time, whatever the configuration says."""
    features, _, _ = arrays()
    np.savez(tmp_path / "x.npz", X=[list(row.values()) for row in features])
    model = fit_file(tmp_path / "x.npz", configured(), 0, quiet)
    (scored,) = score_table(model, open_table(tmp_path / "x.npz"), configured())
    assert model.context.spec.entity_path is None
    assert (~np.isnan(scored.scores[:, 4])).sum() > COUNT / 2


def test_a_path_that_names_nothing_is_one_clear_line(records_file):
    """Where no record has an entity, what to correct is said."""
    with pytest.raises(DataError, match=r"no record has an entity at record.entity_path, 'hosts': correct it"):
        fit_file(records_file, configured(entity_path="hosts"), 0, quiet)


def test_what_is_not_enabled_is_not_read(records_file):
    """With the section as it is by default a table is fitted as ever, to the bit."""
    plain, never = (
        fit_file(records_file, config, 0, quiet) for config in (configured(enabled=False), without_section())
    )
    assert plain.context is None
    assert plain.version == never.version
    assert "context" not in plain.lineage


def without_section():
    return Config(**MODEL_CONFIG, record={"entity_path": "host", "time_path": "when"})


def test_records_held_out_by_the_caller_have_no_place_in_a_log():
    """They are refused rather than ignored."""
    features, entities, _ = arrays()
    with pytest.raises(DataError, match="leave out `held_out`"):
        stream_detector.fit(features, entity=entities, held_out=HeldOut(features[:50], features[:50]))
