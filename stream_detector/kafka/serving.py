"""Models on their way into service: fetched and verified; the first one is waited for."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from threading import Event

import structlog
import torch

from stream_detector.config import Config
from stream_detector.errors import ModelError, ModelFormatError, ModelNotFoundError, ModelSchemaError
from stream_detector.features import FeatureSchema, Kind
from stream_detector.health import Health
from stream_detector.kafka import registry
from stream_detector.kafka.formats import decoder
from stream_detector.kafka.patience import Patience
from stream_detector.kafka.refusals import Refusals
from stream_detector.model import DetectorModel
from stream_detector.records import Message, values_of

__all__ = ["ModelSource", "admitted", "await_model", "check_against", "published", "verified"]

ModelSource = Callable[[], DetectorModel | None]
"""The model to serve, None while there is none."""

LOOK = 1.0  # seconds between two looks for a first model
REMEDY = "make one with 'stream-detector fit FILE --out MODEL' and 'stream-detector models import MODEL'"
NAMED = 5  # absent features that are named

log = structlog.get_logger(__name__)


def published(config: Config, refusals: Refusals) -> ModelSource:
    """The model that the `current` pointer on the models topic names; if it is unfit, which is noted, the one before."""
    return partial(_first_sound, config, refusals)


def verified(config: Config, version: str) -> DetectorModel:
    """A published model that is fit to serve; raises as `admitted`, or a `KafkaError` when it could not be fetched."""
    return admitted(config, version, registry.fetch(config, version))


def admitted(config: Config, version: str, artifact: bytes) -> DetectorModel:
    """The model in an artifact, once its tensors, its features and the scores of its golden batch are proved.

    Raises a `ModelError` with the reason.
    """
    model = DetectorModel.from_bytes(artifact, config.worker.device)
    if model.version != version:
        raise ModelFormatError(
            f"model {version[:12]}: its bytes are not as this program writes them, so alerts could not name it; "
            "publish it again with 'stream-detector models export' and 'models import'"
        )
    _check(model, config)
    model.verify()
    return model


def check_against(model: DetectorModel, messages: Sequence[Message], config: Config) -> None:
    """Raises `ModelSchemaError` when recent records have less than half of the model's features: it is of other records.

    A feature that is missing is imputed, so without this a model of another topic would score, and mean nothing.
    """
    if config.record.format == "float32":
        return  # no names; the width is checked with every vector
    rows = decoder(config.record).read(values_of(messages), config.declared_schema)
    present = {name for features in rows.features for name in features}
    absent = sorted(set(model.schema.names) - present)
    if rows.features and 2 * len(absent) > len(model.schema.names):
        raise ModelSchemaError(
            f"model {model.version[:12]} knows {len(model.schema.names)} features, and {', '.join(absent[:NAMED])} are in none of "
            f"the last {len(rows.features):,} records; was it fitted on another topic?"
        )


def await_model(source: ModelSource, config: Config, stop: Event, health: Health) -> DetectorModel | None:
    """The model, once there is one; None when told to stop before. Nothing is consumed meanwhile.

    A broker that goes away is borne, and a first model waited for, for `worker.unavailable_timeout_ms`.
    Raises `ModelSchemaError` when it was fitted on other features than the configured ones, `ModelNotFoundError`
    when none came, and what else `source` raises.
    """
    torch.set_num_threads(config.worker.threads or os.cpu_count() or 1)
    limit = config.worker.unavailable_timeout_ms / 1000
    patience, tell = Patience.of(config.worker, "fetching the model", health), health.teller("model")
    until, told = time.monotonic() + limit, False
    while not stop.is_set():
        model = patience.insist(source, stop)
        if model is not None:
            _check(model, config)
            log.info("model", version=model.version, features=len(model.schema.features))
            tell(None)
            return model
        none = f"no model on topic {config.topics.models!r} yet; {REMEDY}"
        tell(none)
        if not told:
            log.warning(none, waiting_seconds=limit)
        if time.monotonic() > until:
            raise ModelNotFoundError(f"{none} (waited {limit:.0f} s, worker.unavailable_timeout_ms)")
        told = True
        stop.wait(LOOK)
    return None


def _first_sound(config: Config, refusals: Refusals) -> DetectorModel | None:
    """The current model; if it is refused, the one before, which running workers go on with as well."""
    unsound: list[ModelFormatError] = []
    pointer = registry.current(config, unsound.append)
    for fault in unsound:
        refusals.note(None, fault, pointer.version if pointer else "none")
    if pointer is None:
        return None
    try:
        return verified(config, pointer.version)
    except ModelError as error:
        if pointer.previous is None:
            raise
        refusals.note(pointer, error, pointer.previous)
        return verified(config, pointer.previous)


def _check(model: DetectorModel, config: Config) -> None:
    declared = config.declared_schema
    if config.record.format == "float32":
        _check_vectors(model, declared)
    if declared is not None and not _sorted(declared).matches(_sorted(model.schema)):
        raise ModelSchemaError(
            f"model {model.version[:12]} was fitted on {', '.join(model.schema.names)}, but 'features:' declares "
            f"{', '.join(declared.names)}; fit a model on these features, or correct the configuration"
        )


def _check_vectors(model: DetectorModel, declared: FeatureSchema | None) -> None:
    """A vector names no features, so their order and number must be the model's, and all must be numbers."""
    if declared is not None and declared.names != model.schema.names:
        raise ModelSchemaError(
            f"model {model.version[:12]} reads float32 vectors as {', '.join(model.schema.names)}, but 'features:' "
            f"declares {', '.join(declared.names)}; correct the order, or fit a model on these features"
        )
    if any(feature.kind is Kind.CATEGORICAL for feature in model.schema.features):
        raise ModelSchemaError(
            f"model {model.version[:12]} has categorical features, which float32 vectors cannot hold; "
            "use another record.format, or a model of numbers"
        )


def _sorted(schema: FeatureSchema) -> FeatureSchema:
    """Records name their features, so their order does not matter."""
    return replace(schema, features=tuple(sorted(schema.features, key=lambda feature: feature.name)))
