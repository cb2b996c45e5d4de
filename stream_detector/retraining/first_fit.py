"""Fits without a champion to compare with: from a file, or from the newest telemetry."""

from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any, cast

from stream_detector.config import Config
from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema, encode
from stream_detector.fitting import fit
from stream_detector.gan.run_directory import RunDirectory
from stream_detector.gan.settings import ModelConfig
from stream_detector.kafka import recent
from stream_detector.kafka.formats import decoder
from stream_detector.model import DetectorModel
from stream_detector.records import Message, raw
from stream_detector.retraining.constant import constant_features
from stream_detector.tables import read_table

__all__ = ["fit_file", "fit_topics", "new_run"]

Progress = Callable[[int, int, str], None]
POLL_SECONDS = 1.0


def fit_file(
    path: Path, config: Config, seed: int, progress: Progress, run: RunDirectory | None = None
) -> DetectorModel:
    """A model of the normal records in a table; raises `DataError` when they cannot be used."""
    table = read_table(path)
    progress(0, 1, f"{path.name}: {len(table):,} records")
    return fit(table, config.declared_schema, _model_config(config), seed, config.worker.device, progress, run)


def fit_topics(
    config: Config, count: int, seed: int, progress: Progress, run: RunDirectory | None = None
) -> DetectorModel:
    """A model of the newest `count` records of the telemetry topics, waiting until there are as many.

    The artifact's lineage names the offsets. Raises `DataError` when too few of them can be read.
    """
    while (available := recent.available(config)) < count:
        progress(available, count, f"waiting for telemetry: {available:,} of {count:,} records")
        sleep(POLL_SECONDS)
    messages = cast("list[Message]", recent.newest(config, count))
    rows, unusable = _usable(messages, config)
    schema = config.declared_schema or FeatureSchema.inferred(rows)
    encoded = encode(schema := schema.with_vocabularies(rows), rows, config.record.max_string)
    unusable += len(encoded.rejected)
    if unusable > len(messages) // 2:
        raise DataError(
            f"{unusable:,} of {len(messages):,} records of {', '.join(config.topics.telemetry)} cannot be read; "
            "check record.features_path and features against what the topic holds"
        )
    model = fit(encoded.matrix, schema, _model_config(config), seed, config.worker.device, progress, run)
    constant = constant_features(encoded.matrix, schema)
    return model.with_lineage({"constant": constant, "offsets": _offsets(messages), "unusable": unusable})


def new_run(parent: Path, config: Config, seed: int) -> RunDirectory:
    """A folder in `parent` for one fit with this configuration and seed; raises `ConfigError`."""
    return RunDirectory.create(parent, _model_config(config).model_dump(mode="json"), seed)


def _usable(messages: list[Message], config: Config) -> tuple[list[dict[str, Any]], int]:
    values = [raw(message.value()) for message in messages]
    rows = decoder(config.record).read(values, config.declared_schema)
    return rows.features, len(rows.rejected)


def _offsets(messages: list[Message]) -> dict[str, list[int]]:
    """First and last offset read, by `topic-partition`."""
    ranges: dict[str, list[int]] = {}
    for message in messages:
        offset = message.offset() or 0
        first_last = ranges.setdefault(f"{message.topic()}-{message.partition()}", [offset, offset])
        first_last[0], first_last[1] = min(first_last[0], offset), max(first_last[1], offset)
    return dict(sorted(ranges.items()))


def _model_config(config: Config) -> ModelConfig:
    return ModelConfig(model=config.model, inversion=config.inversion)
