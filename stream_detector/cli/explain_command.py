"""The commands `explain` and `replay`: one judgement, made again from the log."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from stream_detector.audit.differences import Difference, Judgement
from stream_detector.cli.common import ConfigOption, answers, prepare_scoring, settings
from stream_detector.cli.models_command import resolved
from stream_detector.errors import NotRetainedError, ReplayMismatchError
from stream_detector.records import Alert, DeadLetter, printable
from stream_detector.runtime.logs import answer_in_json

__all__ = ["explain", "replay"]

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def explain(
    partition: Annotated[int, typer.Option(min=0, help="The record's partition.")],
    offset: Annotated[int, typer.Option(min=0, help="The record's offset.")],
    topic: Annotated[str | None, typer.Option(help="The record's topic; default: the first telemetry topic.")] = None,
    row: Annotated[
        int | None, typer.Option(min=0, help="The record's number in its message, where messages hold many.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Version, or its first characters; default: the one in force then.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Says how a record scores and why, alerted or not: score, opinions, threshold, every feature's share."""
    configuration = settings(config)
    prepare_scoring(configuration)
    from stream_detector.audit.replay import RecordPosition, judgement, load, model_in_force

    place = RecordPosition(topic or configuration.topics.telemetry[0], partition, offset, row)
    if model is None:
        version, known = model_in_force(configuration, place)
    else:
        version, known = resolved(configuration, model), "as given"
    judged = judgement(configuration, load(configuration, version), place)
    if as_json:
        answer_in_json(json.dumps({"model_known": known, **_plain(judged)}))
    else:
        answers.print(f"model {version[:16]}, {known}")
        _show(judged)


def replay(
    alert: Annotated[str, typer.Argument(metavar="ALERT_ID", help="The alert's 'id'.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Judges an alert's record again, under the alert's own model and threshold; says match or shows the difference."""
    configuration = settings(config)
    prepare_scoring(configuration)
    from stream_detector.audit.replay import replay as again

    done = again(configuration, alert)
    if as_json:
        found = [{"field": d.field, "recorded": d.recorded, "repeated": d.repeated} for d in done.differences]
        answer_in_json(
            json.dumps(
                {"match": not found and done.judgement.in_context, "differences": found, **_plain(done.judgement)},
                default=str,
            )
        )
    elif done.differences:
        answers.print(_compared(done.differences))
    elif done.judgement.in_context:
        answers.print(
            f"match: score {done.alert.score:g} over threshold {done.alert.threshold:g} "
            f"under model {done.alert.model_version[:16]}",
        )
    _judge_differences(alert, done.differences, done.judgement)


def _judge_differences(alert: str, found: list[Difference], judged: Judgement) -> None:
    if not judged.in_context:
        raise NotRetainedError(
            f"alert {alert!r}: retention has left too little of what teaches the context of its record"
        )
    if not found:
        return
    if not judged.whole and all(difference.of_threshold for difference in found):
        raise NotRetainedError(
            f"alert {alert!r}: its threshold cannot be rebuilt, retention left {judged.history:,} scores before its record"
        )
    names = ", ".join(difference.field for difference in found)
    raise ReplayMismatchError(
        f"alert {alert!r}: {names} came out otherwise; were the 'threshold' and 'record' sections the same then?"
    )


def _plain(judged: Judgement) -> dict[str, Any]:
    """A judgement as JSON values: an alert's layout, or why there is none."""
    head = {
        "disposition": judged.disposition,
        "history": judged.history,
        "history_whole": judged.whole,
        "context_whole": judged.in_context,
    }
    account = judged.account
    if isinstance(account, Alert):
        return head | json.loads(account.to_json())  # type: ignore[no-any-return]
    return head | {
        "source": {"topic": account.topic, "partition": account.partition, "offset": account.offset},
        "reason": account.reason,
    }


def _show(judged: Judgement) -> None:
    account = judged.account
    if isinstance(account, DeadLetter):
        answers.print(f"dead-lettered: {printable(account.reason)}")
        return
    compared = "over" if judged.flagged else "not over"
    others = "".join(f", {printable(name)} {score:g}" for name, score in account.others)
    short = "" if judged.whole else ", as far as retention left them"
    for line in (
        f"{judged.disposition}: score {account.score:g} is {compared} threshold {account.threshold:g} nines",
        f"threshold {account.threshold_state}, from {judged.history:,} scores before it{short}",
        f"opinions: inversion {account.inversion:g}, discriminator {account.discriminator:g}{others}",
        f"record {_words(account.event_id)} of {_words(account.entity)} at {_words(account.event_time)}",
    ):
        answers.print(line, soft_wrap=True)
    table = Table("feature", "value", "expected", "contribution", "direction")
    for each in account.contributions:
        cells = (each.feature, each.value, each.expected, f"{each.contribution:.1%}", each.direction)
        table.add_row(*map(_words, cells))
    answers.print(table)


def _compared(found: list[Difference]) -> Table:
    table = Table("differs", "on record", "repeated")
    for difference in found:
        table.add_row(*map(_words, (difference.field, difference.recorded, difference.repeated)))
    return table


def _words(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else printable(value)
