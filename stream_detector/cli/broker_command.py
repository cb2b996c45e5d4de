"""The commands `broker`, a local Kafka for trying things out, and `topics`, which makes topics on any broker."""

from typing import Annotated

import typer

from stream_detector.cli.common import ConfigOption, answers, settings, stop_on_signal
from stream_detector.errors import EmbeddedBrokerError

__all__ = ["broker", "topics"]

ALIVE = 0.5  # seconds between two looks whether the broker lives

topics = typer.Typer(help="Topics on the broker.", no_args_is_help=True)


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


@topics.callback()
def _group() -> None:
    """Keeps `topics create` two words while it is the only command."""


@topics.command()
def create(config: ConfigOption = None) -> None:
    """Creates the configured topics that are missing; existing ones are left as they are."""
    from stream_detector.kafka.topics import create as create_topics

    for name, state, warning in create_topics(settings(config)):
        answers.print(f"{name}: {state}{'; ' + warning if warning else ''}", soft_wrap=True)
