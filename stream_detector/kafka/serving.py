"""The model that a worker starts with: waited for, fetched, verified."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import Event

import structlog
import torch

from stream_detector.config import Config
from stream_detector.errors import ModelSchemaError
from stream_detector.features import FeatureSchema
from stream_detector.kafka import registry
from stream_detector.model import DetectorModel

__all__ = ["ModelSource", "await_model", "published"]

ModelSource = Callable[[], DetectorModel | None]
"""The model to serve, None while there is none."""

LOOK = 1.0  # seconds between two looks for a first model

log = structlog.get_logger(__name__)


def published(config: Config) -> ModelSource:
    """The model that the `current` pointer on the models topic names."""
    return partial(_fetch, config)


def await_model(source: ModelSource, config: Config, stop: Event) -> DetectorModel | None:
    """The model, once there is one; None when told to stop before. Nothing is consumed meanwhile.

    Raises `ModelSchemaError` when it was fitted on other features than the configured ones, and
    what `source` raises.
    """
    torch.set_num_threads(config.worker.threads or os.cpu_count() or 1)
    told = False
    while not stop.is_set():
        model = source()
        if model is not None:
            _check(model, config)
            log.info("model", version=model.version, features=len(model.schema.features))
            return model
        if not told:
            log.warning(
                "no model published yet, waiting for one; make it with "
                "'stream-detector fit FILE --out MODEL' and 'stream-detector models import MODEL'",
                topic=config.topics.models,
            )
        told = True
        stop.wait(LOOK)
    return None


def _fetch(config: Config) -> DetectorModel | None:
    pointer = registry.current(config)
    if pointer is None:
        return None
    return DetectorModel.from_bytes(registry.fetch(config, pointer.version), config.worker.device)


def _check(model: DetectorModel, config: Config) -> None:
    declared = config.declared_schema
    if declared is not None and not _sorted(declared).matches(_sorted(model.schema)):
        raise ModelSchemaError(
            f"model {model.version[:12]} was fitted on {', '.join(model.schema.names)}, but 'features:' declares "
            f"{', '.join(declared.names)}; fit a model on these features, or correct the configuration"
        )


def _sorted(schema: FeatureSchema) -> FeatureSchema:
    """Records name their features, so their order does not matter."""
    return replace(schema, features=tuple(sorted(schema.features, key=lambda feature: feature.name)))
