"""`models`: the versions on the models topic, and which of them is current."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from stream_detector.cli.common import ConfigOption, WhyOption, answers, console, operator, settings
from stream_detector.config import Config
from stream_detector.errors import ModelNotFoundError

__all__ = ["models"]

models = typer.Typer(help="Models on the models topic.", no_args_is_help=True)

VersionArgument = Annotated[str, typer.Argument(help="Version, or its first characters.")]


@models.command("ls")
def list_(config: ConfigOption = None) -> None:
    """Lists published versions, the current one marked."""
    from stream_detector.kafka import registry

    table = Table("version", "published", "size", "current")
    for info in registry.versions(settings(config)):
        published = datetime.fromtimestamp(info.timestamp_ms / 1000, UTC).isoformat(timespec="seconds")
        table.add_row(info.version[:16], published, f"{info.size:,} B", "*" if info.current else "")
    answers.print(table)


@models.command()
def show(version: VersionArgument = "current", config: ConfigOption = None) -> None:
    """Shows a version: features, configuration, training figures; `current` for the one in force."""
    from stream_detector.kafka import registry
    from stream_detector.model import DetectorModel

    configuration = settings(config)
    model = DetectorModel.from_bytes(registry.fetch(configuration, resolved(configuration, version)))
    print(  # noqa: T201 - on standard output, for other programs
        json.dumps(
            {
                "version": model.version,
                "features": model.schema.to_dict(),
                "configuration": model.config.model_dump(mode="json"),
                "metrics": dict(model.metrics),
                "lineage": dict(model.lineage),
            },
            indent=2,
        )
    )


@models.command()
def export(version: VersionArgument, file: Path, config: ConfigOption = None) -> None:
    """Writes a version's artifact to FILE, verified."""
    from stream_detector.kafka import registry

    configuration = settings(config)
    artifact = registry.fetch(configuration, resolved(configuration, version))
    file.write_bytes(artifact)
    console.print(f"wrote {file}: {len(artifact):,} bytes", highlight=False, soft_wrap=True)


@models.command("import")
def import_(file: Path, config: ConfigOption = None, why: WhyOption = "import") -> None:
    """Publishes the artifact in FILE and makes it current, after loading it to prove it whole."""
    from stream_detector.kafka import registry
    from stream_detector.model import DetectorModel

    model = DetectorModel.load(file)
    pointer = registry.publish(settings(config), model.to_bytes(), operator(), why)
    console.print(f"current: version {pointer.version}", highlight=False, soft_wrap=True)


@models.command()
def promote(version: VersionArgument, config: ConfigOption = None, why: WhyOption = "promote") -> None:
    """Makes a published version current; workers take it up when they next start."""
    from stream_detector.kafka import registry

    configuration = settings(config)
    pointer = registry.promote(configuration, resolved(configuration, version), operator(), why)
    console.print(f"current: version {pointer.version}", highlight=False, soft_wrap=True)


def resolved(configuration: Config, version: str) -> str:
    """The version that a user means by its first characters, or by `current`."""
    from stream_detector.kafka import registry

    if version != "current":
        return registry.resolve(configuration, version)
    if (pointer := registry.current(configuration)) is None:
        raise ModelNotFoundError(
            f"topic {configuration.topics.models!r} holds no model yet; publish one with 'stream-detector fit --publish'"
        )
    return pointer.version
