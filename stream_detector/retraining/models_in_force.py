"""The models in force when a retraining begins: the champion, and the model that a person approved last."""

from dataclasses import dataclass, replace
from typing import Self

from stream_detector.config import Config
from stream_detector.errors import ModelSchemaError
from stream_detector.features import FeatureSchema, Kind
from stream_detector.fitting.profiling import barred, learn
from stream_detector.model import DetectorModel
from stream_detector.registry import store
from stream_detector.retraining.telemetry_window import TelemetryWindow

__all__ = ["ModelsInForce"]

BY_PERSON, BY_NOBODY = "the model that a person approved last", "the first model; no person has approved any"


@dataclass(frozen=True, slots=True)
class ModelsInForce:
    """The models in force, None where there is none yet: the one that serves, and the one that a person
    approved last or, before that, the first; `since` says in words which.
    """

    champion: DetectorModel | None
    approved: DetectorModel | None
    since: str = BY_PERSON

    @classmethod
    def load(cls, config: Config) -> Self:
        """Loads the models that the models topic's pointer names; raises a `ModelError` when one is gone or damaged."""
        pointer = store.current(config)
        if pointer is None:
            return cls(None, None)
        champion = _fetch(config, pointer.version)
        since = BY_PERSON if pointer.approved else BY_NOBODY
        if pointer.anchor is None or pointer.anchor == pointer.version:
            return cls(champion, champion if pointer.anchor else None, since)
        return cls(champion, _fetch(config, pointer.anchor), since)

    @property
    def version(self) -> str:
        """The champion's version, or `store.NOTHING`."""
        return self.champion.version if self.champion else store.NOTHING

    def schema(self, config: Config, window: TelemetryWindow) -> FeatureSchema:
        """The features to learn, categories still open: those declared, the champion's, or what the records hold.

        Raises `ModelSchemaError` when they are not the champion's: then there is nothing to compare with.
        """
        declared = config.declared_schema
        if self.champion is None:
            return declared or _open(self._learnt(config, window))
        schema = self.champion.schema
        if declared is not None and _shape(declared) != _shape(schema):
            raise ModelSchemaError(
                f"'features:' declares {', '.join(declared.names)}, model {self.champion.version[:12]} was fitted on "
                f"{', '.join(schema.names)}; correct the one, or make a first model of the others with "
                "'stream-detector fit --from-topic --publish'"
            )
        if excluded := sorted(set(schema.names) & set(config.exclude)):
            raise ModelSchemaError(
                f"'exclude:' leaves out {excluded[0]!r}, which model {self.champion.version[:12]} was fitted on; make a "
                "first model without it with 'stream-detector fit --from-topic --publish'"
            )
        seen = {name for record in window.records for name in record.features}
        if missing := [name for name in schema.names if name not in seen]:
            raise ModelSchemaError(
                f"no record of the window has {', '.join(map(repr, missing))}, which model "
                f"{self.champion.version[:12]} was fitted on; the telemetry's schema has changed: mend it, or make a "
                "first model of the new one with 'stream-detector fit --from-topic --publish'"
            )
        return declared or _open(schema)

    @staticmethod
    def _learnt(config: Config, window: TelemetryWindow) -> FeatureSchema:
        rows = [record.features for record in window.records]
        return learn(rows, left_out=barred(config, flat=not config.record.features_path)).schema


def _fetch(config: Config, version: str) -> DetectorModel:
    return DetectorModel.from_bytes(store.fetch(config, version), config.worker.device)


def _shape(schema: FeatureSchema) -> list[tuple[str, Kind, bool, float | None]]:
    return sorted((f.name, f.kind, f.context, f.period) for f in schema.features)


def _open(schema: FeatureSchema) -> FeatureSchema:
    """Drops the categories and origins that were learnt earlier: new ones come up, old ones disappear."""
    return FeatureSchema(tuple(replace(feature, vocabulary=(), origin=0.0) for feature in schema.features))
