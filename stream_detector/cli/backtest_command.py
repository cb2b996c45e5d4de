"""The command `backtest`: judges retained records with any model."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from stream_detector.cli.common import ConfigOption, answers, prepare_scoring, progress_bar, settings
from stream_detector.cli.models_command import resolved
from stream_detector.errors import ConfigError
from stream_detector.foreign import printable
from stream_detector.runtime.logs import answer_in_json

if TYPE_CHECKING:
    from stream_detector.audit.backtest import Backtest
    from stream_detector.audit.replay import RecordPosition

__all__ = ["backtest"]

SHOWN = 10  # records listed of those added and of those lost; --json has them all


def backtest(
    since: Annotated[str, typer.Option("--from", help="RFC 3339 time of the first record, by Kafka's timestamp.")],
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 time before which to end; default: all.")] = None,
    model: Annotated[str, typer.Option(help="Version, its first characters, or current.")] = "current",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    config: ConfigOption = None,
) -> None:
    """Judges retained records with any published model; shows alerts added and lost. Commits nothing."""
    begin, end = _milliseconds("--from", since), None if until is None else _milliseconds("--to", until)
    if end is not None and end <= begin:
        raise ConfigError(f"--to {until!r} is not after --from {since!r}")
    configuration = settings(config)
    prepare_scoring(configuration)
    from stream_detector.audit.backtest import backtest as judge_again
    from stream_detector.audit.replay import load

    version = resolved(configuration, model)
    loaded = load(configuration, version)
    with progress_bar() as progress:
        result = judge_again(configuration, loaded, begin, end, progress)
    if as_json:
        answer_in_json(json.dumps(_plain(version, result)))
    else:
        _show(version, result, configuration.threshold.target_alert_rate)


def _milliseconds(option: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} {text!r:.80}: expected an RFC 3339 time, as in 2026-01-02T03:04:05Z") from None
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def _plain(version: str, result: "Backtest") -> dict[str, object]:
    return {
        "model": version,
        "records": result.records,
        "dead_lettered": result.dead_lettered,
        "alerts": len(result.raised),
        "alert_rate": result.rate,
        "alerts_on_record": len(result.recorded),
        "alert_rate_on_record": result.recorded_rate,
        "added": [{"id": _id(place), "score": result.raised[place][0]} for place in result.added],
        "lost": [{"id": _id(place), "score": result.recorded[place][0]} for place in result.lost],
    }


def _show(version: str, result: "Backtest", target: float) -> None:
    answers.print(
        f"model {version[:16]}: {result.records:,} records, {len(result.raised):,} alerts, "
        f"alert rate {result.rate:.4%} (target {target:.4%}); on record {len(result.recorded):,} alerts, "
        f"{result.recorded_rate:.4%}; {len(result.added):,} added, {len(result.lost):,} lost, "
        f"{result.dead_lettered:,} dead letters",
    )
    table = Table("", "alert", "score", "threshold")
    for kind, places, scores in (("added", result.added, result.raised), ("lost", result.lost, result.recorded)):
        for place in places[:SHOWN]:
            score, threshold = scores[place]
            table.add_row(kind, _id(place), f"{score:g}", f"{threshold:g}")
        if left := places[SHOWN:]:
            table.add_row(kind, f"and {len(left):,} more; --json lists them", "", "")
    if table.row_count:
        answers.print(table)


def _id(place: "RecordPosition") -> str:
    return printable("-".join(map(str, place)))
