"""The command `status`, which changes nothing."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from stream_detector.cli.common import ConfigOption, answers, settings
from stream_detector.cli.models_command import require_fit
from stream_detector.config import Config
from stream_detector.errors import StreamDetectorError
from stream_detector.foreign import printable
from stream_detector.runtime.logs import answer_in_json

if TYPE_CHECKING:
    from stream_detector.kafka.group import PartitionProgress

__all__ = ["status"]

FIGURES = "entities", "evictions", "bytes", "records", "full", "partial"


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
        told = {"model": version, "trouble": trouble, "releases": releases, "context": _remembered(partitions)}
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
    if remembered := _remembered(partitions):
        answers.print(f"context: {_in_words(remembered)}")
    answers.print(_table(partitions, contexts=remembered is not None))


def _table(partitions: "list[PartitionProgress]", *, contexts: bool) -> Table:
    table = Table("topic", "partition", "committed", "end", "lag", *(("entities", "full context") if contexts else ()))
    for p in partitions:
        row = [
            p.topic,
            str(p.partition),
            "-" if p.committed is None else f"{p.committed:,}",
            f"{p.end:,}",
            f"{p.lag:,}",
        ]
        if contexts:
            row += [f"{p.context.get('entities', 0):,}", _share(p.context)] if p.context else ["-", "-"]
        table.add_row(*row)
    return table


def _remembered(partitions: "list[PartitionProgress]") -> dict[str, int] | None:
    """The figures of the contexts of all partitions together; None where no worker has committed any."""
    held = [Counter(p.context) for p in partitions if p.context]
    total = sum(held, Counter())
    return {name: total[name] for name in FIGURES} if held else None


def _in_words(figures: Mapping[str, int]) -> str:
    told = (
        f"{figures['entities']:,} entities remembered in {figures['bytes'] / 2**20:,.1f} MiB, {figures['evictions']:,} had "
        f"to make room; {_share(figures)} of {figures['records']:,} records had full context"
    )
    return told + (f", {figures['partial']:,} one that the log no longer holds whole" if figures["partial"] else "")


def _share(figures: Mapping[str, int]) -> str:
    """The share of records read whose entity was known well, in words."""
    read = figures.get("records", 0)
    return f"{figures.get('full', 0) / read:.0%}" if read else "-"


def _judged_by(release: str, partitions: int) -> str:
    return f"{printable(release)} judged {partitions} {'partition' if partitions == 1 else 'partitions'} last"


def _trouble(configuration: Config, version: str) -> str | None:
    """The reason why a worker would refuse the model in force at its start; None when it would take it."""
    try:
        require_fit(configuration, version)
    except StreamDetectorError as error:
        return str(error)
    return None
