"""A model with a context: one function of the log in every form that it is asked in, and in its artifact."""

import json
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import Stored
from safetensors.numpy import load, save
from workload import THRESHOLD, contextual_model, entity_rows, entity_telemetry

from stream_detector import DetectorModel
from stream_detector.config import RecordConfig, ThresholdConfig
from stream_detector.detector import detect, limits
from stream_detector.errors import DataError, ModelFormatError
from stream_detector.records import Decoder
from stream_detector.scoring.threshold import RollingThreshold

COUNT = 700


def columns(count=COUNT, seed=3):
    """Features, entities and times of records."""
    entities, times, features = zip(*entity_rows(count, seed, anomalies=0.05), strict=True)
    return list(features), list(entities), list(times)


def whole():
    return contextual_model().score(*columns())


def cut(at):
    """Pieces of the records between the cuts."""
    ends = sorted({0, COUNT, *at})
    return [[column[first:end] for column in columns()] for first, end in pairwise(ends)]


@given(st.lists(st.integers(1, COUNT - 1), max_size=12))
@settings(max_examples=15, deadline=None)
def test_a_stream_in_pieces_scores_as_one_call(at):
    """Wherever the records are cut, across epochs too, each of them has the same scores to the bit."""
    stream = contextual_model().stream()
    found = [stream.score(*piece) for piece in cut(at)]
    for view in ("record", "context"):
        np.testing.assert_array_equal(np.concatenate([each.views[view] for each in found]), whole().views[view])
    np.testing.assert_array_equal(np.concatenate([each.anomaly for each in found]), whole().anomaly)


@pytest.mark.parametrize("size", [1, 97, COUNT])
def test_the_record_road_scores_as_the_library(size):
    """Records decoded from JSON, in batches of any size, have the scores of one call."""
    count = 120 if size == 1 else COUNT
    model, place = contextual_model(), ("telemetry", 0)
    thresholds = {place: RollingThreshold(limits(model, ThresholdConfig(**THRESHOLD)))}
    contexts = {place: model.context.begin()}
    messages = [
        Stored(at, value, stamp=(0, -1)) for at, value in enumerate(entity_telemetry(count, seed=3, anomalies=0.05))
    ]
    found = []
    for first in range(0, count, size):
        outcome = detect(messages[first : first + size], model, thresholds, Decoder(RecordConfig()), contexts)
        found += [judged.scores for judged in outcome.judged]
    np.testing.assert_array_equal(np.concatenate([each.anomaly for each in found]), whole().anomaly[:count])
    np.testing.assert_array_equal(
        np.concatenate([each.views["context"] for each in found]), whole().views["context"][:count]
    )


def test_the_context_finds_what_the_record_alone_does_not():
    """A server at another server's level is normal alone, and not by what it did before."""
    usual, swapped = (contextual_model().score(*given) for given in (columns(), moved()))
    at = slice(300, COUNT, 20)
    assert np.nanmedian(swapped.views["context"][at]) > np.nanmedian(usual.views["context"]) + 0.5
    assert np.median(swapped.views["record"][at]) < 1


def moved():
    """The records with every twentieth one named after another server."""
    features, entities, times = columns()
    return (
        features,
        [f"host-{(at * 7) % 9}" if at >= 300 and not at % 20 else name for at, name in enumerate(entities)],
        times,
    )


def test_records_without_entities_are_judged_alone():
    """Where nobody is named, nothing is said of a context, and the score is the record's own."""
    features, _, times = columns()
    scores = contextual_model().score(features, [None] * COUNT, times)
    assert np.isnan(scores.views["context"]).all()
    np.testing.assert_array_equal(scores.anomaly, contextual_model().score_alone(features).anomaly)


def test_an_artifact_keeps_the_context():
    """What is read back is the same model: version, scores, specification."""
    again = DetectorModel.from_bytes(contextual_model().to_bytes(), device="cpu")
    assert again.version == contextual_model().version
    assert again.context.spec == contextual_model().context.spec
    np.testing.assert_array_equal(again.score(*columns()).anomaly, whole().anomaly)
    assert again.context.spec.hash in repr(again)
    again.verify()


def parts():
    data = contextual_model().to_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["stream_detector"])
    return {name: np.array(tensor) for name, tensor in load(data).items()}, header


def refused(tensors, header, reason):
    with pytest.raises(ModelFormatError, match=reason):
        DetectorModel.from_bytes(save(tensors, metadata={"stream_detector": json.dumps(header)}))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("axes", 0),
        ("axes", 10**6),
        ("axes", "many"),
        ("axes", None),
        ("warm", 0),
        ("newness", -1),
        ("view", "all"),
        ("spec", None),
        ("spec", {"features": []}),
        ("spec", {"features": [1]}),
        ("spec", {"cap": 0}),
        ("spec", {"clip": 0}),
        ("spec", {"features": ["nowhere"]}),
        ("spec", {"epoch": 10, "history": 20}),
        ("spec", {"most_entities": 0}),
        ("spec", {"unknown": 1}),
        ("spec", {"epoch": "ten"}),
        ("spec", {"clip": None}),
        ("spec", {"zone": "Nowhere/Land"}),
        ("spec", {"zone": 5}),
        ("spec", {"most_entities": 2.5}),
        ("spec", {"grace": -1}),
        ("spec", {"features": "cpu"}),
    ],
)
def test_a_header_of_a_context_that_cannot_be_right_is_refused(part, value):
    """It is refused as any other header is, before anything is read by it."""
    tensors, header = parts()
    if isinstance(value, dict):
        value = header["context"]["spec"] | value
    refused(tensors, header | {"context": header["context"] | {part: value}}, "model header")


def test_tensors_of_a_context_are_checked_by_name():
    """A missing, misshapen, mistyped or non-finite one is refused and named, and so is a view of another width."""
    tensors, header = parts()
    for name in (name for name in tensors if name.startswith("context.")):
        refused({each: tensor for each, tensor in tensors.items() if each != name}, header, name)
    refused(tensors | {"context.projection.axes": tensors["context.projection.axes"][:-1]}, header, "projection.axes")
    refused(tensors | {"context.population.weight": np.array([np.nan])}, header, "population.weight")
    refused(tensors | {"context.view": tensors["context.view"][:-1]}, header, "context.view")
    garbled = tensors["context.view"].copy()
    garbled[:8] = 255
    refused(tensors | {"context.view": garbled}, header, "header length")
    refused(tensors, {name: each for name, each in header.items() if name != "context"}, "context")
    narrow = np.frombuffer(contextual_model(0, columns=4).view.to_bytes(), np.uint8)
    context = header["context"] | {"view": len(narrow)}
    refused(tensors | {"context.view": narrow}, header | {"context": context}, "another number of columns")


def test_wrong_lengths_and_offsets_that_go_back_are_data_errors():
    """Each is told with what was given; a stream refuses offsets before those that it has seen."""
    model, (features, entities, times) = contextual_model(), columns()
    for wrong, says in (
        ({"entity": entities[:-1]}, "`entity` has 699 values for 700 records"),
        ({"time": times[:-1]}, "`time` has 699 values for 700 records"),
        ({"offset": [0]}, r"offsets have shape \[1\]; give one for each of 700 records"),
        ({"offset": list(range(COUNT))[::-1]}, "offsets must ascend from 0 on"),
    ):
        with pytest.raises(DataError, match=says):
            model.score(features, **{"entity": entities, "time": times} | wrong)
    stream = model.stream()
    stream.score(features[:10], entities[:10], times[:10])
    with pytest.raises(DataError, match="offsets must ascend from 10 on"):
        stream.score(features[:1], entities[:1], times[:1], offset=[9])
    stream.score(features[:1], entities[:1], times[:1], offset=[5_000])
    with pytest.raises(DataError, match="offsets must ascend from 5,001 on"):
        stream.score(features[:1], entities[:1], times[:1], offset=[5_000])


def test_rows_of_one_message_share_an_offset():
    """Equal offsets are in order, and holes between offsets are nothing special."""
    features, entities, times = columns()
    scores = contextual_model().score(features, entities, times, np.repeat(np.arange(COUNT // 2) * 3, 2))
    assert np.isfinite(scores.anomaly).all()


def test_the_first_record_of_an_entity_says_nothing_unless_configured():
    """`new_entity: unusual` gives it the nines that first records had in fitting; `usual` is silent."""
    features, _, times = columns(30)
    names = [f"new-{at}" for at in range(30)]
    for chosen, silent in (("usual", True), ("unusual", False)):
        view = contextual_model(0, new_entity=chosen).score(features, names, times).views["context"]
        assert np.isnan(view).all() == silent
        assert silent or (view > 0.5).all()


def test_an_explanation_is_of_the_record_alone():
    """A model with a context explains raw records."""
    (explained,) = contextual_model().explain([{"cpu": 500.0, "memory": 20.0}])
    assert explained.features[0].name == "cpu"
