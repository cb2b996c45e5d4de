"""The commands `run` and `demo`."""

from typing import Annotated

import typer

from stream_detector.cli.common import ConfigOption, answers, prepare_scoring, settings, stop_on_signal
from stream_detector.errors import ConfigError

__all__ = ["demo", "run"]

NOT_INSTALLED = {"demo", "demo.run_demo", "consumers", "producers"}


def run(
    config: ConfigOption = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop once every record that existed at the start is committed.")
    ] = False,
) -> None:
    """Runs a worker: telemetry in, alerts and dead letters out, exactly once."""
    configuration = settings(config)
    from stream_detector.health import Health
    from stream_detector.worker.listener import listen
    from stream_detector.worker.metrics import WorkerMetrics

    health = Health(configuration.metrics.turn_timeout_ms / 1000)
    metrics = WorkerMetrics(health)
    listen(configuration.metrics, health, metrics)  # first of all: what follows takes seconds to import
    prepare_scoring(configuration)
    from stream_detector.worker import loop

    done = loop.run(configuration, until_end=until_end, stop=stop_on_signal(), observer=metrics, health=health)
    answers.print(
        f"records={done.records} normal={done.normal} flagged={done.flagged} "
        f"dead_lettered={sum(done.dead_lettered.values())} commits={done.commits} aborts={done.aborts}",
        soft_wrap=True,
    )


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Seed of the telemetry, its faults and the fit.")] = 7,
) -> None:
    """Shows it all: an embedded Kafka, simulated telemetry with faults, a fit, alerts, a summary."""
    try:
        from demo.run_demo import run_demo
    except ModuleNotFoundError as error:
        if error.name not in NOT_INSTALLED:
            raise
        raise ConfigError(
            "the demo is not part of the installed package: run it in a checkout of the repository (make demo) "
            "or in the image (stream-detector demo)"
        ) from None
    run_demo(seed=seed)
