"""Shows alerts as they come: `python -m consumers.tail`.

One block an alert, or with `--json` one line of JSON each. Reads committed alerts only, joins no
group and commits nothing, so that any number of people may look at once.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from consumers.alert_view import view
from stream_detector.config import load_config
from stream_detector.errors import ConfigError
from stream_detector.kafka.follow import follow
from stream_detector.kafka.properties import faults
from stream_detector.records import Alert, Message, alert_from_json, printable, raw
from stream_detector.runtime import program
from stream_detector.runtime.logs import Terminal, answer_in_json

__all__ = ["alerts", "main"]


def alerts(messages: Iterable[Message]) -> Iterator[Alert]:
    """The alerts among the messages; what is none is named on standard error and passed over."""
    for message in messages:
        try:
            yield alert_from_json(raw(message.value()) or b"", raw(message.key()))
        except ValueError:
            where = f"{message.topic()}-{message.partition()}@{message.offset()}"
            print(f"skipped: {printable(where)} holds no alert", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return program.run(lambda: _run(_parser().parse_args(argv)), terminated=0)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit: {arguments.limit}; give 1 or more")
    config = load_config(arguments.config, faults)
    kafka = config.kafka
    if arguments.bootstrap_servers:
        kafka = kafka.at(arguments.bootstrap_servers)
    topic = arguments.topic or config.topics.alerts
    endless = arguments.follow or not arguments.from_beginning
    messages = follow(kafka, topic, from_beginning=arguments.from_beginning, endless=endless)
    _show(islice(alerts(messages), arguments.limit), as_json=arguments.json)


def _show(shown: Iterator[Alert], *, as_json: bool) -> None:
    console = Terminal()
    for alert in shown:
        if as_json:
            answer_in_json(alert.to_json())
        else:
            console.print(view(alert))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m consumers.tail", description=__doc__.split("\n", 1)[0])
    parser.add_argument("-c", "--config", type=Path, help="configuration file, for its kafka and topics sections")
    parser.add_argument("--bootstrap-servers", help="host:port list, instead of the configuration's")
    parser.add_argument("--topic", help="topic, instead of the configuration's alerts topic")
    parser.add_argument("--from-beginning", action="store_true", help="show all alerts there are, then stop")
    parser.add_argument("--follow", action="store_true", help="with --from-beginning: wait for more")
    parser.add_argument("--limit", type=int, help="stop after this many alerts")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    return parser


if __name__ == "__main__":
    sys.exit(main())
