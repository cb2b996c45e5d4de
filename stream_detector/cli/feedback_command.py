"""The command `feedback`: what an alert turned out to be, and how often alerts are right."""

import json
from typing import Annotated

import typer

from stream_detector.cli.common import ConfigOption, answers, operator, settings
from stream_detector.config import Config
from stream_detector.errors import ConfigError
from stream_detector.foreign import printable
from stream_detector.records.feedback import Verdict, precision
from stream_detector.runtime.logs import answer_in_json

__all__ = ["feedback"]


def feedback(
    alert: Annotated[str | None, typer.Argument(metavar="ALERT_ID", help="The alert's 'id'.")] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="What it turned out to be.")] = None,
    note: Annotated[str, typer.Option(help="Anything worth keeping beside the verdict.")] = "",
    summary: Annotated[
        bool, typer.Option("--summary", help="Show how many verdicts there are, and precision.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    config: ConfigOption = None,
) -> None:
    """Says what an alert turned out to be, for retraining, the gate and the precision; the last word counts."""
    configuration = settings(config)
    if summary and alert is None and verdict is None and not note:
        _summarise(configuration, as_json)
    elif not summary and alert is not None and verdict is not None:
        _give(configuration, alert, verdict, note, as_json)
    else:
        raise ConfigError("feedback: give an ALERT_ID with --verdict anomaly or false-alarm, or --summary alone")


def _give(config: Config, alert: str, verdict: Verdict, note: str, as_json: bool) -> None:
    from stream_detector.audit.feedback_topic import give

    given = give(config, alert, verdict, note, operator())
    if as_json:
        answer_in_json(given.to_json())
    else:
        answers.print(f"{printable(given.alert)}: {given.verdict}, by {printable(given.who)}")


def _summarise(config: Config, as_json: bool) -> None:
    from stream_detector.audit.feedback_topic import latest

    figure = precision(latest(config))
    if as_json:
        counts = {"judged": figure.judged, "anomalies": figure.anomalies, "false_alarms": figure.false_alarms}
        answer_in_json(json.dumps(counts | {"precision": figure.value}))
        return
    share = "no verdicts yet" if figure.value is None else f"precision {figure.value:.1%}"
    answers.print(
        f"{figure.judged:,} alerts judged: {figure.anomalies:,} anomalies, {figure.false_alarms:,} false alarms; {share}",
    )
