"""The command `validate`, which changes nothing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from stream_detector.cli.common import ConfigOption, answers, settings
from stream_detector.config import Config
from stream_detector.foreign import printable

if TYPE_CHECKING:
    from stream_detector.context.spec import ContextSpec
    from stream_detector.kafka.retention import Kept

__all__ = ["validate"]

SETTINGS = "retention.ms", "retention.bytes", "segment.ms", "segment.bytes"


def validate(
    config: ConfigOption = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Ask the cluster, too: whether the topics keep what a restart has to read again."),
    ] = False,
) -> None:
    """Checks a configuration and shows what it means; without --live nothing is opened."""
    configuration = settings(config)
    topics, threshold = configuration.topics, configuration.threshold
    names = ", ".join(printable(feature.name) for feature in configuration.features) or "those of the model"
    answers.print(
        f"valid. Reads {', '.join(topics.telemetry)} at {printable(configuration.kafka.bootstrap_servers)} as group "
        f"{printable(configuration.kafka.group_id)}; alerts to {topics.alerts}, dead letters to {topics.dead_letters}. "
        f"Features: {names}. Flags about 1 in {1 / threshold.target_alert_rate:,.0f} normal records.",
    )
    if live:
        for line in _held_against_the_cluster(configuration):
            answers.print(printable(line, None), soft_wrap=True)


def _held_against_the_cluster(config: Config) -> Iterator[str]:
    """Says in words whether a restart can rebuild thresholds and contexts, and what contexts take."""
    from stream_detector.kafka.retention import kept

    found = kept(config)
    spec = _specification(config)
    needed = config.threshold.window + (spec.epoch + spec.history if spec else 0)
    yield _needs(config, spec, needed)
    for topic in found:
        yield from _verdict(topic, needed)
    if spec:
        yield _memory(spec, sum(len(topic.partitions) for topic in found))


def _specification(config: Config) -> "ContextSpec | None":
    """The context of the model in force; without one, what the configuration would have fitted; None without a context."""
    from stream_detector.context.context_model import specified
    from stream_detector.model import DetectorModel
    from stream_detector.registry import store

    if pointer := store.current(config):
        model = DetectorModel.from_bytes(store.fetch(config, pointer.version), "cpu")
        return model.context.spec if model.context else None
    if not config.context.enabled:
        return None
    names = tuple(feature.name for feature in config.features)
    return specified(config.context, names, config.record.entity_path or None, config.record.time_path or None)


def _needs(config: Config, spec: "ContextSpec | None", needed: int) -> str:
    window = f"threshold.window {config.threshold.window:,}"
    if spec is None:
        return f"A restart reads {needed:,} offsets of a partition again ({window}); there is no context of entities."
    return (
        f"A restart reads up to {needed:,} offsets of a partition again: {window}, context.epoch {spec.epoch:,} and "
        f"context.history {spec.history:,}."
    )


def _verdict(topic: "Kept", needed: int) -> Iterator[str]:
    """Says of a topic whether it keeps so many offsets and a segment, by its partition that keeps the least."""
    subject = f"topic {topic.topic!r}"
    if topic.is_compacted:
        yield (
            f"{subject}: NOT REPLAYABLE, it is compacted: what is gone cannot be read again, so thresholds and contexts "
            "after a restart may differ from before. Set cleanup.policy=delete."
        )
        return
    if not topic.partitions:
        return
    number = min(topic.partitions, key=lambda each: _margin(topic, each))
    partition, wanted = topic.partitions[number], needed + topic.segment(number)
    rate = "unknown" if partition.a_day is None else f"about {partition.a_day:,.0f}"
    yield (
        f"{subject}: partition {number} keeps the least: offsets {partition.low:,} to {partition.high:,}, {rate} a day; "
        f"wanted with a segment {wanted:,.0f}. {_settings(topic)}"
    )
    yield f"{subject}: {_today(topic, number, wanted)} {_tomorrow(topic, number, wanted)}"


def _margin(topic: "Kept", number: int) -> tuple[bool, float]:
    """Sorts partitions by how much they keep, the least first."""
    partition, promised = topic.partitions[number], topic.promised(number)
    return partition.is_whole, partition.offsets if promised is None else min(promised, partition.offsets)


def _today(topic: "Kept", number: int, wanted: float) -> str:
    partition = topic.partitions[number]
    if partition.is_whole:
        return "OK today, nothing was deleted yet, so all can be rebuilt."
    if partition.offsets >= wanted:
        return f"OK today, {partition.offsets:,} offsets are there, so all can be rebuilt."
    return (
        f"TOO LITTLE today, {partition.offsets:,} offsets are there: after a restart contexts may be partial, "
        "and alerts say so, until an epoch whose beginning is retained."
    )


def _tomorrow(topic: "Kept", number: int, wanted: float) -> str:
    """Says what the settings promise for the time when retention deletes."""
    if topic.settings is None:
        return "Its settings may not be read by this user, so what it will keep is not known."
    promised = topic.promised(number)
    if promised is not None:
        said = (
            "enough"
            if promised >= wanted
            else "TOO LITTLE: raise retention, or lower context.epoch and context.history"
        )
        return f"At today's rate its settings keep about {promised:,.0f} offsets, {said}."
    if topic.limit("retention.ms") is None and topic.limit("retention.bytes") is None:
        return "Its settings delete nothing."
    return "What its settings will keep is not known before it has records."


def _settings(topic: "Kept") -> str:
    return ", ".join(f"{name}={topic.limit(name) or 'unlimited'}" for name in SETTINGS) + "." if topic.settings else ""


def _memory(spec: "ContextSpec", partitions: int) -> str:
    """Says what the contexts of all partitions take, if one worker owned them all and every place were taken."""
    from stream_detector.context.table import empty

    if not spec.features:
        return "The memory of contexts is not known before the features are: there is no model, and features is empty."
    each = sum(array.nbytes for array in empty(len(spec.features), 1))
    most = spec.most_entities if spec.entity_path is not None else 1
    return (
        f"Contexts take at most {partitions * 2 * most * each / 2**20:,.1f} MiB in a worker that owns all: {partitions:,} "
        f"partitions, 2 tables, {most:,} entities ({'context.most_entities' if most > 1 else 'a partition is one'}) of "
        f"{each:,} bytes each."
    )
