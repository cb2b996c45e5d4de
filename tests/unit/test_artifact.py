"""A model file is checked before it is believed."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from small_models import mixed

from stream_detector import DetectorModel
from stream_detector.errors import ModelFormatError


def parts():
    data = mixed().to_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["stream_detector"])
    return {name: np.array(tensor) for name, tensor in load(data).items()}, header


def packed(tensors, header):
    return save(tensors, metadata={"stream_detector": json.dumps(header)})


def refused(data, reason):
    with pytest.raises(ModelFormatError, match=reason):
        DetectorModel.from_bytes(data)


def test_equal_models_have_equal_bytes():
    """Packing what was unpacked gives the same bytes, so a version names a model."""
    data = mixed().to_bytes()
    assert DetectorModel.from_bytes(data, device="cpu").to_bytes() == data


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_noise_is_refused(data):
    """No bytes that are not an artifact raise anything but ModelFormatError."""
    with pytest.raises(ModelFormatError):
        DetectorModel.from_bytes(data)


@given(st.floats(0, 1), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_damage_is_refused_or_harmless(place, flip):
    """A flipped byte anywhere is refused with ModelFormatError or gives a model that still scores finite."""
    data = bytearray(mixed().to_bytes())
    data[int(place * (len(data) - 1))] ^= flip
    try:
        model = DetectorModel.from_bytes(bytes(data), device="cpu")
    except ModelFormatError:
        return
    assert model.version != mixed().version


@given(st.floats(0, 0.999))
@settings(max_examples=30, deadline=None)
def test_a_cut_file_is_refused(share):
    """A file cut short anywhere is refused."""
    data = mixed().to_bytes()
    refused(data[: int(len(data) * share)], "model")


def test_an_impossible_header_length_is_refused():
    """A header length beyond the file is refused before anything is read by it."""
    refused(struct.pack("<Q", 2**62) + b"{}", "header length")


def test_other_tensors_are_refused_by_name():
    """A missing, additional, misshapen, mistyped or non-finite tensor is refused and named."""
    tensors, header = parts()
    refused(packed({k: v for k, v in tensors.items() if k != "tail.raw"}, header), "tail.raw")
    refused(packed(tensors | {"extra": np.zeros(1, np.float32)}, header), "extra")
    refused(packed(tensors | {"tail.scale": np.zeros(3)}, header), "tail.scale")
    refused(packed(tensors | {"tail.scale": tensors["tail.scale"].astype(np.float32)}, header), "tail.scale")
    refused(packed(tensors | {"memory": tensors["memory"][1:]}, header), "memory")
    refused(packed(tensors | {"memory": tensors["memory"] + np.float32(np.inf)}, header), "not finite")
    damaged = tensors["encoder.0.weight"].copy()
    damaged[0, 0, 0] = np.nan
    refused(packed(tensors | {"encoder.0.weight": damaged}, header), "not finite")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"format": None},
        {"schema": []},
        {"schema": [{"name": "x"}]},
        {"gaps": [True]},
        {"config": {"model": {"unknown": 1}}},
        {"config": {"model": {"members": 10**9}}},
        {"memory": "many"},
        {"memory": 3},
        {"memory": 10**9},
        {"metrics": [1]},
        {"golden": None},
        {"golden": {"records": [[1.0]], "scores": [[1.0, 1.0, 1.0]]}},
    ],
)
def test_other_headers_are_refused(change):
    """A header of another format, or whose values cannot be right, is refused."""
    tensors, header = parts()
    refused(packed(tensors, header | change), "model header|format")


def test_a_foreign_safetensors_file_is_refused():
    """A well-formed safetensors file of something else is refused."""
    refused(save({"weight": np.zeros(3, np.float32)}), "not a model of this project")
