"""The commands `run` and `demo`."""

from typing import Annotated

import typer

from stream_detector.cli.common import ConfigOption, answers, prepare_scoring, settings, stop_on_signal

__all__ = ["demo", "run"]


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
    from stream_detector.demo import run_demo

    run_demo(seed=seed)
