"""The commands `validate` and `status`, which change nothing."""

import json
from collections import Counter
from typing import Annotated

import typer
from rich.table import Table

from stream_detector.cli.common import ConfigOption, answers, settings
from stream_detector.cli.models_command import require_fit
from stream_detector.config import Config
from stream_detector.errors import StreamDetectorError
from stream_detector.foreign import printable
from stream_detector.runtime.logs import answer_in_json

__all__ = ["status", "validate"]


def validate(config: ConfigOption = None) -> None:
    """Checks a configuration and shows what it means; nothing is opened."""
    configuration = settings(config)
    topics, threshold = configuration.topics, configuration.threshold
    names = ", ".join(printable(feature.name) for feature in configuration.features) or "those of the model"
    answers.print(
        f"valid. Reads {', '.join(topics.telemetry)} at {printable(configuration.kafka.bootstrap_servers)} as group "
        f"{printable(configuration.kafka.group_id)}; alerts to {topics.alerts}, dead letters to {topics.dead_letters}. "
        f"Features: {names}. Flags about 1 in {1 / threshold.target_alert_rate:,.0f} normal records.",
    )


def status(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Shows the model in force, whether it fits the telemetry topics, and how far the group has come in each partition."""
    from stream_detector.kafka.group import progress
    from stream_detector.registry import store

    configuration = settings(config)
    pointer = store.current(configuration)
    partitions = progress(configuration)
    trouble = _trouble(configuration, pointer.version) if pointer else None
    releases = Counter(p.release for p in partitions if p.release)
    if as_json:
        version = pointer.version if pointer else None
        told = {"model": version, "trouble": trouble, "releases": releases}
        answer_in_json(json.dumps(told | {"partitions": [p.to_dict() for p in partitions]}))
        return
    model = (
        f"{pointer.version[:16]} ({printable(pointer.who)}: {printable(pointer.why)})"
        if pointer
        else "none; make one: stream-detector fit"
    )
    answers.print(f"model: {model}")
    if trouble:
        answers.print(f"trouble: {printable(trouble)}")
    if len(releases) > 1:
        answers.print(f"releases: mixed; {', '.join(_judged_by(*each) for each in sorted(releases.items()))}")
    table = Table("topic", "partition", "committed", "end", "lag")
    for p in partitions:
        table.add_row(
            p.topic, str(p.partition), "-" if p.committed is None else f"{p.committed:,}", f"{p.end:,}", f"{p.lag:,}"
        )
    answers.print(table)


def _judged_by(release: str, partitions: int) -> str:
    return f"{printable(release)} judged {partitions} {'partition' if partitions == 1 else 'partitions'} last"


def _trouble(configuration: Config, version: str) -> str | None:
    """The reason why a worker would refuse the model in force at its start; None when it would take it."""
    try:
        require_fit(configuration, version)
    except StreamDetectorError as error:
        return str(error)
    return None
