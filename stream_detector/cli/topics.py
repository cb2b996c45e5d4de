"""`topics`: the topics that the detector reads and writes."""

import typer

from stream_detector.cli.common import ConfigOption, answers, settings

__all__ = ["topics"]

topics = typer.Typer(help="Topics on the broker.", no_args_is_help=True)


@topics.callback()
def _group() -> None:
    """Keeps `topics create` two words while it is the only command."""


@topics.command()
def create(config: ConfigOption = None) -> None:
    """Creates the configured topics that are missing; existing ones are left as they are."""
    from stream_detector.kafka.topics import create as create_topics

    for name, state, warning in create_topics(settings(config)):
        answers.print(f"{name}: {state}{'; ' + warning if warning else ''}", soft_wrap=True)
