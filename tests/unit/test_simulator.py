"""The simulator is reproducible, and its labels tell the whole truth."""

import json
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.faults import FaultKind
from producers.simulator import Sample, Simulation, main, simulate
from producers.telemetry import CATEGORY, METRICS, RELEASE
from stream_detector.config import RecordConfig
from stream_detector.errors import ConfigError
from stream_detector.fitting.profiling import learn
from stream_detector.records import Decoder, identity

pytestmark = pytest.mark.thorough

FAULTY = Simulation(seed=5, entities=3, period=200, faults=8, normal_first=1_500, records=9_000)


@pytest.fixture(scope="module")
def faulty() -> list[Sample]:
    return list(simulate(FAULTY))


@pytest.fixture(scope="module")
def healthy() -> dict[str, Sample]:
    return {s.id: s for s in simulate(replace(FAULTY, faults=0))}


def metric(samples: list[Sample], name: str) -> np.ndarray:
    return np.array([np.nan if s.features[name] is None else s.features[name] for s in samples], dtype=float)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), entities=st.integers(1, 7), faults=st.sampled_from([0.0, 10.0]))
def test_same_seed_same_bytes(seed, entities, faults):
    """The stream is a pure function of its settings."""
    simulation = Simulation(seed=seed, entities=entities, period=100, faults=faults)
    once, again = ([s.to_json() for s in islice(simulate(simulation), 300)] for _ in range(2))

    assert once == again


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 200))
def test_a_longer_stream_begins_with_the_shorter_one(seed, length):
    """How many records are asked for does not change the records."""
    short = [s.to_json() for s in simulate(Simulation(seed=seed, records=length))]

    assert length == len(short)
    assert short == [s.to_json() for s in islice(simulate(Simulation(seed=seed)), length)]


def test_another_seed_gives_another_stream():
    """The seed matters."""
    assert next(simulate(Simulation(seed=1))).to_json() != next(simulate(Simulation(seed=2))).to_json()


def test_faults_change_their_records_features_and_nothing_else(faulty, healthy):
    """Against the same stream without faults, exactly the labelled features of the labelled records may differ."""
    for seen in faulty:
        changed = {name for name in seen.features if seen.features[name] != healthy[seen.id].features[name]}

        assert changed <= (set(seen.fault.features) if seen.fault else set())


def test_every_fault_shows(faulty, healthy):
    """No label without a change that can be seen in the telemetry."""
    touched = {s.fault for s in faulty if s.fault}
    shown = {s.fault for s in faulty if s.fault and s.features != healthy[s.id].features}

    assert touched
    assert shown == touched


def test_all_kinds_come_and_none_touches_the_training_part(faulty):
    """Faults of every kind appear, after the promised normal records and never cut off by the end."""
    kinds = {s.fault.kind for s in faulty if s.fault}
    covered = {fault: sum(s.fault == fault for s in faulty) for fault in {s.fault for s in faulty if s.fault}}

    assert set(FaultKind) == kinds
    assert not any(s.fault for s in faulty[:1_500])
    assert {fault: fault.records for fault in covered} == covered


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_no_fault_is_cut_off_by_the_end(seed):
    """Every fault of a bounded stream has all its records in it."""
    samples = list(simulate(Simulation(seed=seed, entities=2, period=60, faults=20, records=400)))

    for fault in {s.fault for s in samples if s.fault}:
        assert sum(s.fault == fault for s in samples) == fault.records


def test_the_number_of_faults_is_about_what_was_asked_for(faulty):
    """8 faults per 1,000 records over 7,500 records: entities that rest cost some of the 60."""
    assert 30 <= len({s.fault for s in faulty if s.fault}) <= 75


def test_faults_of_an_entity_leave_a_rest_between_them(faulty):
    """After a fault an entity is healthy for at least as long as the fault lasted."""
    for entity in {s.entity for s in faulty}:
        faults = sorted({s.fault for s in faulty if s.fault and s.entity == entity}, key=lambda fault: fault.start)
        for earlier, later in pairwise(faults):
            assert later.start > earlier.end + earlier.records


def test_labels_are_not_in_the_telemetry(faulty):
    """A record tells nothing of its fault but the values themselves."""
    sample = next(s for s in faulty if s.fault)
    record = json.loads(sample.to_json())

    assert {"id", "time", "entity", "features"} == set(record)
    assert {m.name for m in METRICS} | {CATEGORY} >= set(record["features"])


def test_a_stuck_value_is_frozen(faulty):
    """A stuck sensor reports one value, the last healthy one, from its first to its last record."""
    fault = next(s.fault for s in faulty if s.fault and s.fault.kind is FaultKind.STUCK)
    own = [s for s in faulty if s.entity == fault.entity]
    values = {s.features[fault.features[0]] for s in own[fault.start - 1 : fault.end + 1]}

    assert len(values) == 1


def test_a_drift_starts_small_and_ends_large(faulty, healthy):
    """A drift's distance from the normal value grows over its records."""
    fault = next(
        s.fault for s in faulty if s.fault and s.fault.kind is FaultKind.DRIFT and None not in s.features.values()
    )
    name = fault.features[0]
    own = [s for s in faulty if s.fault == fault]
    gaps = metric(own, name) - metric([healthy[s.id] for s in own], name)
    gaps = gaps[~np.isnan(gaps)]

    assert (np.diff(gaps) > 0).all()
    assert gaps[0] < gaps[-1] / 20


def test_a_broken_correlation_stays_within_the_usual_range(faulty):
    """Each value of a broken correlation is one that the metric takes on normal days."""
    normal = [s for s in faulty if s.fault is None]
    for sample in (s for s in faulty if s.fault and s.fault.kind is FaultKind.CORRELATION):
        name = sample.fault.features[0]
        usual = metric(normal, name)
        if sample.features[name] is not None:
            assert np.nanmin(usual) * 0.9 <= sample.features[name] <= np.nanmax(usual) * 1.1


def test_a_broken_correlation_is_far_from_what_its_company_says(faulty, healthy):
    """Its value is about as far from the healthy one as two different hours of a day are, or more."""
    spreads = {m.name: m.spread for m in METRICS}
    for sample in (s for s in faulty if s.fault and s.fault.kind is FaultKind.CORRELATION):
        name = sample.fault.features[0]
        if sample.features[name] is not None:
            assert abs(sample.features[name] - healthy[sample.id].features[name]) > spreads[name]


def test_a_category_fault_is_out_of_vocabulary(faulty):
    """Its category occurs in no healthy record."""
    known = {s.features[CATEGORY] for s in faulty if s.fault is None}
    unseen = {s.features[CATEGORY] for s in faulty if s.fault and s.fault.kind is FaultKind.CATEGORY}

    assert unseen
    assert not known & unseen


def test_metrics_move_together_and_come_round_daily():
    """Normal telemetry has the correlations and the season that faults break."""
    samples = list(simulate(Simulation(seed=3, entities=1, period=200, records=2_000)))
    cpu, network = metric(samples, "cpu_percent"), metric(samples, "network_mb_s")
    day = np.corrcoef(cpu[:-200], cpu[200:])[0, 1]
    half = np.corrcoef(cpu[:-100], cpu[100:])[0, 1]

    assert np.corrcoef(cpu, network)[0, 1] > 0.95
    assert day > 0.8
    assert half < 0


def test_a_release_changes_what_it_names_for_good_and_nothing_before_it():
    """Up to the release the stream is the same to the byte; from there its metrics are off by its factors, no others."""
    before = list(simulate(Simulation(seed=2, entities=3, period=100, records=1_500)))
    after = list(simulate(Simulation(seed=2, entities=3, period=100, records=1_500, release=900)))

    assert before[:900] == after[:900]
    for name in (each.name for each in METRICS):
        ratio = np.nanmedian(metric(after[900:], name) / np.maximum(metric(before[900:], name), 1e-9))
        assert ratio == pytest.approx(RELEASE.get(name, 1.0), rel=0.01), name


def test_some_values_are_missing_and_harmlessly_so():
    """About half a per cent of two sensors' values are missing; such records are usable."""
    samples = list(simulate(Simulation(seed=0, records=10_000)))
    gaps = np.isnan(metric(samples, "temperature_c")).mean()

    assert 0.003 < gaps < 0.008


def test_the_detector_can_read_the_records(faulty):
    """What the simulator writes decodes under the default configuration, with id, entity and time."""
    schema = learn([s.features for s in faulty]).schema
    decoded = Decoder(RecordConfig()).decode([s.to_json() for s in faulty], schema)

    assert not decoded.rejected
    assert (faulty[7].id, faulty[7].entity, faulty[7].time) == identity(decoded.documents[7], RecordConfig())


@pytest.mark.parametrize("wrong", [{"entities": 0}, {"period": 2}, {"faults": -1}, {"seed": -1}, {"start": "soon"}])
def test_a_bad_setting_is_named(wrong):
    """A value out of range is refused with the setting's name and what to give."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Simulation(**wrong)


def test_the_program_writes_records_and_labels(faulty, tmp_path, capsys):
    """`--out` and `--labels` write one record and one fault a line; labels match the library's."""
    out, labels = tmp_path / "t.jsonl", tmp_path / "labels.jsonl"
    options = ["--seed", "5", "--entities", "3", "--period", "200", "--faults", "8", "--normal-first", "1500"]

    assert main([*options, "--records", "9000", "--out", str(out), "--labels", str(labels)]) == 0
    assert [s.to_json() for s in faulty] == out.read_bytes().splitlines()
    expected = {s.fault: None for s in faulty if s.fault}
    assert [fault.to_json() for fault in expected] == labels.read_bytes().splitlines()
    assert "9,000 records" in capsys.readouterr().err


def test_the_program_ends_on_an_error_with_one_line(tmp_path, capsys):
    """A bad option gives one line that names it, and a non-zero exit code."""
    assert main(["--rate", "-1", "--records", "10", "--out", str(tmp_path / "x")]) != 0
    assert capsys.readouterr().err.startswith("error: --rate")
