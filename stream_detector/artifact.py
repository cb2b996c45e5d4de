"""The model artifact: one safetensors file, its metadata a JSON header; no pickle anywhere.

What is read is checked before it is used: total size, header size, format version, every
tensor's name, shape and type against what the header's schema and configuration call for, and that
every value is finite. Weight formats that run code when read are the usual way into a model loader.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stream_detector.context.context_model import ContextModel
from stream_detector.context.context_storage import ContextHeader, context_header, context_tensors
from stream_detector.errors import ConfigError, ModelFormatError
from stream_detector.features import FeatureSchema, Kind
from stream_detector.gan.memory import NEAR
from stream_detector.gan.networks import Gan, Sizes, tensor_shapes
from stream_detector.gan.settings import ModelConfig
from stream_detector.gan.training import sizes_for
from stream_detector.golden import Golden
from stream_detector.normaliser import Layout, Normaliser
from stream_detector.scoring.calibration import KNOTS, Calibration, TailTable
from stream_detector.scoring.discrimination import FeatureSpread
from stream_detector.scoring.opinions import Panel
from stream_detector.scoring.scorer import Scorer, Screen, remembered

__all__ = ["FORMAT", "Artifact", "pack", "unpack"]

FORMAT = 4
KEY = "stream_detector"  # one metadata key only: safetensors writes several in no fixed order
MAX_BYTES = 512 * 2**20
MAX_HEADER_BYTES = 32 * 2**20
COLUMN_PARTS = ("centre", "scale", "jump", "knee", "offset", "gain", "filler")
MOST_KEPT = 65_536  # records in a memory
TAIL_PARTS = ("raw", "nines", "scale", "shape")

Shapes = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Artifact:
    """The parts of a model that an artifact keeps."""

    scorer: Scorer
    calibration: Calibration
    config: ModelConfig
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any]
    golden: Golden
    context: ContextModel | None = None
    view: bytes = b""
    """The artifact of the detector that judges the context."""


def pack(artifact: Artifact) -> bytes:
    """The artifact as bytes; equal artifacts give equal bytes."""
    scorer = artifact.scorer
    header = {
        "format": FORMAT,
        "schema": scorer.normaliser.layout.schema.to_dict(),
        "gaps": list(scorer.normaliser.layout.gaps),
        "config": artifact.config.model_dump(mode="json"),
        "memory": len(scorer.kept),
        "metrics": dict(artifact.metrics),
        "lineage": dict(artifact.lineage),
        "golden": artifact.golden.to_header(),
    }
    if others := list(scorer.panel.methods):
        header["scorers"] = others
    if artifact.context:
        header["context"] = {**context_header(artifact.context), "view": len(artifact.view)}
    text = json.dumps(header, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return bytes(save(_tensors(artifact), metadata={KEY: text}))


def unpack(data: bytes) -> Artifact:
    """The artifact in `data`, its networks on the CPU; raises `ModelFormatError` with the reason."""
    header = _header(data)
    try:
        config = ModelConfig.model_validate(header["config"])
        layout = Layout(FeatureSchema.from_dict(header["schema"]), tuple(bool(gap) for gap in header["gaps"]))
        kept = int(header["memory"])
        metrics = {str(name): float(value) for name, value in header["metrics"].items()}
        lineage = dict(header["lineage"])
        names = [str(name) for name in header.get("scorers", ())]
        panel = _panel(config.model.mode, names)
        golden = Golden.from_header(header["golden"], len(layout.schema.features), len(panel.told) + 1)
        context = ContextHeader.read(header["context"], layout.schema) if "context" in header else None
        view_bytes = int(header["context"]["view"]) if context else 0
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError, ConfigError) as error:
        raise ModelFormatError(
            f"the model header cannot be read ({type(error).__name__}); fit the model anew"
        ) from None
    if len(layout.gaps) != len(layout.schema.features):
        raise ModelFormatError("the model header names another number of features than it describes")
    if not NEAR < kept <= MOST_KEPT:
        raise ModelFormatError(f"the model header says that {kept:,} records are kept; it must be 4 to {MOST_KEPT:,}")
    sizes = _sizes(layout, config)
    shapes = _shapes(layout, sizes, kept, config, panel)
    if context:
        shapes |= {f"context.{name}": shape for name, shape in context.shapes().items()}
        shapes["context.view"] = ("uint8", (view_bytes,))
    tensors = _read(data, shapes)
    scorer = _scorer(layout, config, tensors, sizes, panel)
    calibration = _calibration(tensors, panel)
    if context is None:
        return Artifact(scorer, calibration, config, metrics, lineage, golden)
    known = context.model({name: tensors[f"context.{name}"] for name in context.shapes()})
    return Artifact(scorer, calibration, config, metrics, lineage, golden, known, tensors["context.view"].tobytes())


def _tensors(artifact: Artifact) -> dict[str, NDArray[Any]]:
    scorer, calibration = artifact.scorer, artifact.calibration
    tensors: dict[str, NDArray[Any]] = {name: tensor.cpu().numpy() for name, tensor in scorer.gan.tensors()}
    tensors["screen.start"], tensors["screen.usual"] = scorer.screen.start, scorer.screen.refined
    tensors["memory"] = scorer.kept
    tensors["usual"] = scorer.residual_rms.cpu().numpy()
    tensors["spread.mean"] = scorer.spread.mean.cpu().numpy()
    tensors["spread.whitening"] = scorer.spread.whitening.cpu().numpy()
    for part in COLUMN_PARTS:
        tensors[f"columns.{part}"] = getattr(scorer.normaliser, part)
    for name, learnt in scorer.learnt.items():
        tensors |= {_learnt_name(name, at): array for at, array in enumerate(learnt)}
    tables = (calibration.parts, calibration.opinions, calibration.anomaly)
    for part in TAIL_PARTS:
        tensors[f"tail.{part}"] = np.concatenate([getattr(table, part) for table in tables])
    if artifact.context:
        tensors |= {f"context.{name}": array for name, array in context_tensors(artifact.context).items()}
        tensors["context.view"] = np.frombuffer(artifact.view, np.uint8)
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _header(data: bytes) -> Mapping[str, Any]:
    """The JSON header, read without trusting any length in the bytes."""
    if len(data) > MAX_BYTES:
        raise ModelFormatError(f"the model has {len(data):,} bytes, more than the {MAX_BYTES:,} allowed")
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise ModelFormatError("this is not a model file: its header length is impossible, or it was cut short")
    try:
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][KEY])
        version = header["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ModelFormatError("this is not a model of this project: its header holds no description") from None
    if version != FORMAT:
        raise ModelFormatError(f"the model has format {version!r}, this program reads format {FORMAT}; fit it anew")
    return header  # type: ignore[no-any-return]


def _sizes(layout: Layout, config: ModelConfig) -> Sizes:
    judged = int(layout.judged().sum())
    return sizes_for(config.model, judged, len(layout.judged()) - judged)


def _panel(mode: str, names: list[str]) -> Panel:
    try:
        return Panel.named(mode, names)
    except KeyError as error:
        raise ModelFormatError(
            f"the model has the scorer {error.args[0]!r}, which is not registered here; register it, or fit the model anew"
        ) from None


def _learnt_name(scorer: str, at: int) -> str:
    """The name of the tensor that holds an array which a scorer has learnt."""
    return f"scorer.{scorer}.{at}"


def _shapes(layout: Layout, sizes: Sizes, kept: int, config: ModelConfig, panel: Panel) -> Shapes:
    """Type and shape of every tensor that such a model has."""
    shapes: Shapes = {name: ("float32", shape) for name, shape in tensor_shapes(sizes).items()}
    shapes["memory"] = ("float32", (kept, len(layout.schema.features)))
    shapes["usual"] = ("float32", (sizes.views, 1, sizes.columns))
    last = sizes.hidden[-1]
    shapes["spread.mean"] = ("float32", (sizes.discriminators, 1, last))
    shapes["spread.whitening"] = ("float32", (sizes.discriminators, last, last))
    views = len(config.model.views)
    shapes["screen.start"] = shapes["screen.usual"] = ("float64", (views,))
    for part in COLUMN_PARTS:
        shapes[f"columns.{part}"] = ("float64", (views, len(layout.owners())))
    for name, method in panel.methods.items():
        shapes |= {_learnt_name(name, at): ("float32", shape) for at, shape in enumerate(method.shapes(sizes))}
    rows = len(panel.parts) * views + len(panel.told) + 1
    shapes["tail.raw"] = shapes["tail.nines"] = ("float64", (rows, KNOTS))
    shapes["tail.scale"] = shapes["tail.shape"] = ("float64", (rows,))
    return shapes


def _read(data: bytes, shapes: Shapes) -> dict[str, NDArray[Any]]:
    try:
        tensors: dict[str, NDArray[Any]] = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(f"the model's tensors cannot be read: {error}") from None
    if tensors.keys() != shapes.keys():
        odd = min(tensors.keys() ^ shapes.keys())
        raise ModelFormatError(f"the model has other tensors than its header calls for, such as {odd!r}")
    for name, (dtype, shape) in shapes.items():
        tensor = tensors[name]
        if (tensor.dtype.name, tensor.shape) != (dtype, shape):
            raise ModelFormatError(
                f"tensor {name!r} is {tensor.dtype.name} {list(tensor.shape)}, expected {dtype} {list(shape)}"
            )
        sound = ~np.isinf(tensor) if name == "memory" else np.isfinite(tensor)  # a kept record may have gaps
        if not sound.all():
            raise ModelFormatError(f"tensor {name!r} holds values that are not finite")
    return tensors


def _scorer(
    layout: Layout, config: ModelConfig, tensors: Mapping[str, NDArray[Any]], sizes: Sizes, panel: Panel
) -> Scorer:
    columns = (np.array(tensors[f"columns.{part}"]) for part in COLUMN_PARTS)
    weights = {name: torch.tensor(t) for name, t in tensors.items() if t.dtype == np.float32}
    normaliser, gan = Normaliser(layout, config.model.views, *columns), Gan.from_tensors(weights, sizes)
    spread = FeatureSpread(weights["spread.mean"], weights["spread.whitening"])
    kept = np.array(tensors["memory"])
    _check_codes(layout, kept)
    screen = Screen(np.array(tensors["screen.start"]), np.array(tensors["screen.usual"]))
    memory = remembered(normaliser, gan, kept)
    learnt = {
        name: tuple(np.array(tensors[_learnt_name(name, at)]) for at in range(len(method.shapes(sizes))))
        for name, method in panel.methods.items()
    }
    return Scorer(normaliser, gan, kept, memory, spread, weights["usual"], screen, config.search, panel, learnt)


def _check_codes(layout: Layout, kept: NDArray[np.float32]) -> None:
    """Raises `ModelFormatError` when a kept record has a category that its feature's vocabulary does not know."""
    for position in layout.of_kind(Kind.CATEGORICAL):
        codes = kept[:, position][~np.isnan(kept[:, position])]
        feature = layout.schema.features[position]
        if ((codes != np.floor(codes)) | (codes < 0) | (codes > len(feature.vocabulary))).any():
            raise ModelFormatError(f"a kept record has no category of feature {feature.name!r}; the file is damaged")


def _calibration(tensors: Mapping[str, NDArray[Any]], panel: Panel) -> Calibration:
    table = TailTable(*(np.array(tensors[f"tail.{part}"]) for part in TAIL_PARTS))
    told = -1 - len(panel.told)
    return Calibration(table.take(slice(0, told)), table.take(slice(told, -1)), table.take(slice(-1, None)))
