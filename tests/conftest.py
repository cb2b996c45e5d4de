"""Fixtures that several test directories share; imports stay inside, so that unit tests start fast."""

import contextlib
import functools
import os
import signal
import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import structlog  # it notes standard output when imported: inside a test, that would be a stream closed after it

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream_detector.config import Config
    from stream_detector.kafka.embedded import EmbeddedBroker

    MakeConfig = Callable[..., Config]


RESTING = {"metadata.max.idle.interval.ms": 5_000}
"""A broker that nobody asks anything writes a mark every so many milliseconds; ten times as often is its default."""


@pytest.fixture(autouse=True)
def fresh_logs() -> "Iterator[None]":
    """Logs that a test has pointed at a stream of its own do not outlive it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings whose pictures nobody looks at draw none: that takes longer than a small training."""
    for place in ("plots", "study", "html_report"):
        monkeypatch.setattr(f"stream_detector.tracking.{place}.save_plots", lambda run: None)


@dataclass(frozen=True)
class GivenBroker:
    """A broker that somebody else runs."""

    bootstrap_servers: str


@pytest.fixture(scope="session")
def quick_java(pytestconfig: pytest.Config) -> "Iterator[None]":
    """Every broker that this session starts, in a process of its own as well, costs a third of the CPU time."""
    import quick_java

    from stream_detector.errors import EmbeddedBrokerError

    with pytest.MonkeyPatch.context() as patch:
        with contextlib.suppress(EmbeddedBrokerError):  # without Java, whoever needs a broker says so
            patch.setenv(quick_java.VARIABLE, quick_java.options(pytestconfig.cache.mkdir("java")))
        yield


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> "Iterator[GivenBroker | EmbeddedBroker]":
    """A real Kafka for the whole session: KAFKA_BOOTSTRAP_SERVERS if set, else an embedded one."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        yield GivenBroker(given)
        return
    request.getfixturevalue("quick_java")
    from stream_detector.kafka.embedded import EmbeddedBroker

    with EmbeddedBroker(properties=RESTING) as embedded:
        yield embedded


@pytest.fixture
def private_broker(quick_java: None) -> "Iterator[EmbeddedBroker]":
    """An embedded Kafka of the test's own, to stop, kill and restart."""
    from stream_detector.kafka.embedded import EmbeddedBroker

    with EmbeddedBroker() as embedded:
        yield embedded


@pytest.fixture
def make_config(broker: "GivenBroker | EmbeddedBroker") -> "MakeConfig":
    """`make_config(threshold={"window": 200}, …)`: names of its own in every section, topics created.

    `bootstrap_servers=…` points it at another broker; `create=False` leaves the topics out.
    """
    from stream_detector.config import Config
    from stream_detector.kafka import topics

    def make(*, bootstrap_servers: str | None = None, create: bool = True, **sections: Any) -> Config:
        config = Config(**fresh_sections(bootstrap_servers or broker.bootstrap_servers, sections))
        if create:
            topics.create(config)
        return config

    return make


@pytest.fixture(scope="session")
def commands_built_once() -> "Iterator[None]":
    """The tree of commands is built once, not for every command that a test runs: that is half of a quick one's time."""
    import typer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], commands_built_once: None
) -> "Callable[..., tuple[int, str, str]]":
    """Runs `stream-detector ARGS`; returns exit code, standard output and standard error."""

    def run(*args: object) -> tuple[int, str, str]:
        from stream_detector.cli import main

        monkeypatch.setattr(sys, "argv", ["stream-detector", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "200")
        before = signal.getsignal(signal.SIGINT)
        capsys.readouterr()  # what was said before is not the command's
        with pytest.raises(SystemExit) as ended:
            main()
        signal.signal(signal.SIGINT, before)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def fresh_sections(bootstrap_servers: str, sections: dict[str, Any]) -> dict[str, Any]:
    """Configuration sections with a fresh group, slot and topic names under the given overrides."""
    tag = uuid.uuid4().hex[:8]
    kafka = {"bootstrap_servers": bootstrap_servers, "group_id": f"group-{tag}", "slot": f"slot-{tag}"}
    kinds = ("alerts", "dead_letters", "models", "feedback", "control", "shadow")
    names = {kind: f"{kind.replace('_', '-')}-{tag}" for kind in kinds}
    topics = {"telemetry": [f"telemetry-{tag}"], "partitions": 3, **names}
    own: dict[str, dict[str, Any]] = {"kafka": kafka, "topics": topics}
    return {**sections, **{name: section | sections.get(name, {}) for name, section in own.items()}}
