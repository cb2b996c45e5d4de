"""Artifacts that must be refused, made from one that is sound."""

import hashlib
import io
import json
import pickle
import struct
import zipfile

import numpy as np
from safetensors.numpy import load, save

FLIPS = 24  # byte positions, spread evenly


def malformed(data):
    """(name, version it is published as, bytes) of each; damage in transit keeps the version of the sound one."""
    sound = hashlib.sha256(data).hexdigest()
    for name, wrong in rebuilt(data):
        yield name, hashlib.sha256(wrong).hexdigest(), wrong
    for share in (0.0, 0.001, 0.3, 0.9, 0.9999):
        cut = data[: int(share * len(data))] or b"{"
        yield f"cut at {share}", hashlib.sha256(cut).hexdigest(), cut
        yield f"cut at {share} under way", sound, cut
    for number, place in enumerate(np.linspace(0, len(data) - 1, FLIPS, dtype=int), 1):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        yield f"bit flipped, place {number} of {FLIPS}", sound, bytes(flipped)
    yield "other bytes behind the end", sound, data + b"\0"


def rebuilt(data):
    """Well-formed files of the wrong kind or content."""
    tensors, header = parts(data)
    first = min(name for name in tensors if tensors[name].ndim > 1 and tensors[name].dtype == np.float32)
    weight = tensors[first]
    for name, other in {
        "misshapen": weight.reshape(-1),
        "turned": weight[..., None],
        "too wide": np.concatenate([weight, weight], axis=-1),
        "of another type": weight.astype(np.float64),
        "of halves": weight.astype(np.float16),
        "with NaN": with_value(weight, np.nan),
        "with infinity": with_value(weight, np.inf),
        "empty": weight[:0],
    }.items():
        yield f"tensor {name}", packed(tensors | {first: other}, header)
    for name in ("extra", "../../etc/passwd", "/etc/passwd", "..\\win.ini", "a\0b", ""):
        yield f"additional tensor {name!r}", packed(tensors | {name: np.zeros(2, np.float32)}, header)
        yield f"tensor renamed {name!r}", packed(without(tensors, first) | {name: weight}, header)
    yield "tensor missing", packed(without(tensors, first), header)
    yield "no tensors", packed({}, header)
    for name, change in {
        "a future format": {"format": header["format"] + 1},
        "format text": {"format": "1"},
        "no schema": {"schema": []},
        "unknown settings": {"config": {"model": {"unknown": 1}}},
        "absurd settings": {"config": {"model": {"members": 10**9}}},
        "other golden scores": {"golden": header["golden"] | {"scores": shifted(header["golden"]["scores"])}},
        "no golden scores": {"golden": None},
    }.items():
        yield name, packed(tensors, header | change)
    yield "foreign safetensors", save({"weight": np.zeros(3, np.float32)})
    yield "huge header announced", struct.pack("<Q", 2**62) + data[8:]
    yield "deeply nested header", framed(b"[" * 100_000 + b"]" * 100_000)
    yield "header of another file", framed(json.dumps({"__metadata__": {"stream_detector": "[]"}}).encode())
    yield "a pickle", pickle.dumps({"weight": weight})
    yield "a zip renamed", zipped(data)
    yield "noise", np.random.default_rng(0).bytes(4_096)


def parts(data):
    """Tensors and header of an artifact."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["stream_detector"])
    return {name: np.array(tensor) for name, tensor in load(data).items()}, header


def packed(tensors, header):
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    return save({name: np.ascontiguousarray(t) for name, t in tensors.items()}, metadata={"stream_detector": text})


def with_value(weight, value):
    damaged = weight.copy()
    damaged.flat[0] = value
    return damaged


def without(tensors, name):
    return {each: tensor for each, tensor in tensors.items() if each != name}


def shifted(scores):
    return [[score + 1 for score in row] for row in scores]


def framed(header):
    return struct.pack("<Q", len(header)) + header


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


NAMES = tuple(
    name
    for name, *_ in malformed(packed({"a": np.zeros((2, 2), np.float32)}, {"format": 1, "golden": {"scores": [[1.0]]}}))
)
"""What is wrong with each; known without a fitted model, so that tests are collected quickly."""
