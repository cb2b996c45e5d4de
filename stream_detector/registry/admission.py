"""Admits models to service: they are fetched and verified, and the first one is waited for."""

import os
import time
from collections.abc import Callable
from functools import partial
from threading import Event

import structlog
import torch

from stream_detector.config import Config
from stream_detector.errors import ModelError, ModelFormatError, ModelNotFoundError
from stream_detector.health import Health
from stream_detector.kafka.retry import Retry
from stream_detector.model import DetectorModel
from stream_detector.registry import store
from stream_detector.registry.model_pointer import Pointer
from stream_detector.registry.suitability import check_at_start, check_declared

__all__ = ["ModelSource", "Refusals", "admitted", "await_model", "published", "verified"]

ModelSource = Callable[[], DetectorModel | None]
"""Gives the model to serve, None while there is none."""

LOOK = 1.0  # seconds between two looks for a first model
REMEDY = "make one with 'stream-detector fit FILE --out MODEL' and 'stream-detector models import MODEL'"

log = structlog.get_logger(__name__)


class Refusals:
    """Keeps the models that a worker has refused since its start; each is named once with its reason, and counted once."""

    def __init__(self) -> None:
        self.standing: str | None = None
        """The refused model that the last pointer names, and why; None once another pointer is considered."""
        self._known: set[tuple[Pointer | None, str]] = set()

    def __len__(self) -> int:
        return len(self._known)

    def note(self, pointer: Pointer | None, error: Exception, serving: str) -> None:
        """Notes that a model is refused which a pointer names, or a pointer itself: None, whose offset the error names.

        A pointer that names it anew is another decision, and is told again. `serving` is the version that goes on.
        """
        version = pointer.version if pointer else "?"
        self.standing = f"model {version[:16]} is refused, {serving[:16]} serves: {error}"
        if (pointer, str(error)) not in self._known:
            self._known.add((pointer, str(error)))
            log.error("model refused, another one serves", version=version, serving=serving, why=str(error))


def published(config: Config, refusals: Refusals) -> ModelSource:
    """Gives a source of the model that the `current` pointer names; if that is unfit, of the one before, and notes it."""
    return partial(_first_sound, config, refusals)


def verified(config: Config, version: str) -> DetectorModel:
    """Fetches a published model and admits it; raises as `admitted`, or a `KafkaError` when it could not be fetched."""
    return admitted(config, version, store.fetch(config, version))


def admitted(config: Config, version: str, artifact: bytes) -> DetectorModel:
    """Loads the model in an artifact, and proves its tensors, its features and the scores of its golden batch.

    Raises a `ModelError` with the reason.
    """
    model = DetectorModel.from_bytes(artifact, config.worker.device)
    if model.version != version:
        raise ModelFormatError(
            f"model {version[:12]}: its bytes are not as this program writes them, so alerts could not name it; "
            "publish it again with 'stream-detector models export' and 'models import'"
        )
    check_declared(model, config)
    model.verify()
    return model


def await_model(source: ModelSource, config: Config, stop: Event, health: Health) -> DetectorModel | None:
    """Waits for the model; None when told to stop before. Nothing is consumed meanwhile.

    A broker that is away, and a first model, are waited for as long as `worker.unavailable_timeout_ms` says.
    Raises `ModelSchemaError` when it was fitted on other features than the configured ones, or on other records
    than a new group is to read, `ModelNotFoundError` when none came, and what else `source` raises.
    """
    torch.set_num_threads(config.worker.threads or os.cpu_count() or 1)
    limit = config.worker.unavailable_timeout_ms / 1000
    retry, tell = Retry.of(config.worker, "fetching the model", health), health.teller("model")
    until, told = time.monotonic() + limit, False
    while not stop.is_set():
        model = retry.run(source, stop)
        if model is not None:
            check_at_start(model, config)
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
    """Admits the current model; if it is refused, the one before, which running workers go on with as well."""
    unsound: list[ModelFormatError] = []
    pointer = store.current(config, unsound.append)
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
