"""`run`, `demo` and `broker`: what stays in the foreground until it is done or told to stop."""

import signal
from _thread import start_new_thread
from threading import Event
from typing import Annotated

import typer

from stream_detector.cli.common import ConfigOption, answers, prepare_scoring, settings
from stream_detector.errors import EmbeddedBrokerError

__all__ = ["broker", "demo", "run"]

ALIVE = 0.5  # seconds between two looks whether the broker lives


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


def broker(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port on localhost; 0 = any free one.")] = 9092,
) -> None:
    """Runs a local single-node Kafka for trying things out; its data is gone when it stops."""
    from stream_detector.kafka.embedded import EmbeddedBroker

    stop = stop_on_signal()
    with EmbeddedBroker(port=port) as embedded:
        answers.print(f"Kafka listens at {embedded.bootstrap_servers} (log: {embedded.log_file}); Ctrl-C stops it")
        while not stop.wait(ALIVE):
            if not embedded.running:
                raise EmbeddedBrokerError(f"the broker ended by itself; its log says why: {embedded.log_file}")


def stop_on_signal() -> Event:
    """An event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop = Event()

    def request(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        # Beside this thread, which may hold the event's lock: interrupted where it waits, it would wait for itself.
        start_new_thread(stop.set, ())

    signal.signal(signal.SIGINT, request)
    signal.signal(signal.SIGTERM, request)
    return stop
