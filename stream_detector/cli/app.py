"""All commands of `stream-detector`, as one application."""

import typer

from stream_detector.cli.backtest_command import backtest
from stream_detector.cli.broker_command import broker, topics
from stream_detector.cli.explain_command import explain, replay
from stream_detector.cli.feedback_command import feedback
from stream_detector.cli.fit_command import fit, score
from stream_detector.cli.models_command import models
from stream_detector.cli.retrain_command import retrain
from stream_detector.cli.run_command import demo, run
from stream_detector.cli.status_command import status
from stream_detector.cli.study_command import report, study
from stream_detector.cli.validate_command import validate

__all__ = ["app"]

app = typer.Typer(
    help="Streaming anomaly detection for Kafka: telemetry topics in, explained alerts out, exactly once.",
    epilog="Exit codes: 0 done, 2 configuration or usage, 3 data, 4 model, 5 Kafka, 6 embedded broker, 7 gate refused, "
    "8 replay differs, 9 no longer retained, 10 output that cannot be written, 130 interrupted, 1 anything else.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    demo,
    fit,
    score,
    run,
    retrain,
    validate,
    status,
    explain,
    replay,
    backtest,
    feedback,
    broker,
    study,
    report,
):
    app.command()(command)
app.add_typer(models, name="models")
app.add_typer(topics, name="topics")
