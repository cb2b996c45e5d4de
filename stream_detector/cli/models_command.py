"""The commands `models`: the versions on the models topic, and which of them is current."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from stream_detector.cli.common import ConfigOption, WhyOption, answers, console, operator, settings
from stream_detector.config import Config
from stream_detector.errors import ModelNotFoundError
from stream_detector.foreign import printable
from stream_detector.runtime.files import check_target, write_file
from stream_detector.runtime.logs import answer_in_json

if TYPE_CHECKING:
    from stream_detector.registry.model_pointer import Pointer

__all__ = ["models", "require_fit", "resolved"]

models = typer.Typer(help="Models on the models topic.", no_args_is_help=True)

VersionArgument = Annotated[str, typer.Argument(help="Version, or its first characters.")]


@models.command("ls")
def list_(config: ConfigOption = None) -> None:
    """Lists published versions and what they are: current, previous, approved or first, shadow; and who chose them."""
    from stream_detector.registry import model_pointer, store

    configuration = settings(config)
    current, shadow = model_pointer.current(configuration), model_pointer.shadow(configuration)
    table = Table("version", "published", "size", "role", "by", "when", "why")
    for info in store.versions(configuration):
        chosen = next((each for each in (current, shadow) if each and each.version == info.version), None)
        decision = map(printable, (chosen.who, chosen.when, chosen.why) if chosen else ())
        roles = ", ".join((*_roles(info.version, current, shadow), *(["damaged"] if info.damaged else [])))
        table.add_row(info.version[:16], _moment(info.timestamp_ms), f"{info.size:,} B", roles, *decision)
    answers.print(table)


def _moment(milliseconds: int) -> str:
    """A record's time; whoever wrote it may have given it any."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"


def _roles(version: str, current: "Pointer | None", shadow: "Pointer | None") -> Iterator[str]:
    """Yields the roles that the pointers give a version."""
    if current is not None:
        named = {"current": current.version, "previous": current.previous, "approved": current.approved}
        if current.approved is None:
            named["first"] = current.first
        yield from (role for role, each in named.items() if each == version)
    if shadow is not None and shadow.version == version:
        yield "shadow"


@models.command()
def show(version: VersionArgument = "current", config: ConfigOption = None) -> None:
    """Shows a version: features, configuration, training figures; `current` for the one in force."""
    from stream_detector.model import DetectorModel
    from stream_detector.registry import store

    configuration = settings(config)
    model = DetectorModel.from_bytes(store.fetch(configuration, resolved(configuration, version)))
    answer_in_json(
        json.dumps(
            {
                "version": model.version,
                "features": model.schema.to_dict(),
                "configuration": model.config.model_dump(mode="json"),
                "metrics": dict(model.metrics),
                "lineage": dict(model.lineage),
                **({"context": model.context.described} if model.context else {}),
            },
            indent=2,
        )
    )


@models.command()
def export(version: VersionArgument, file: Path, config: ConfigOption = None) -> None:
    """Writes a version's artifact to FILE, verified."""
    from stream_detector.registry import store

    configuration = settings(config)
    check_target(file)
    artifact = store.fetch(configuration, resolved(configuration, version))
    write_file(file, artifact)
    _say(f"wrote {printable(file)}: {len(artifact):,} bytes")


@models.command("import")
def import_(
    file: Path,
    config: ConfigOption = None,
    why: WhyOption = "import",
    candidate: Annotated[bool, typer.Option("--candidate", help="Publish only; what serves stays.")] = False,
) -> None:
    """Publishes the artifact in FILE and makes it current; it must be whole, and fit what the telemetry topics hold."""
    from stream_detector.model import DetectorModel
    from stream_detector.registry import store
    from stream_detector.registry.suitability import require_suitable

    configuration, model = settings(config), DetectorModel.load(file)
    if candidate:
        _say(f"published: version {store.store(configuration, model.to_bytes())}")
        return
    require_suitable(model, configuration)
    pointer = store.publish(configuration, model.to_bytes(), operator(), why, approved_by=operator())
    _say(f"current: version {pointer.version}")


@models.command()
def promote(
    version: VersionArgument,
    config: ConfigOption = None,
    why: WhyOption = "promote",
    expected: Annotated[
        str | None, typer.Option(help="The version that must serve now; another one is exit code 4, and nothing moves.")
    ] = None,
) -> None:
    """Makes a published version current, if it fits what the telemetry topics hold; running workers take it up between
    two transactions.
    """
    from stream_detector.registry import store

    configuration = settings(config)
    seen = store.resolve(configuration, expected) if expected else None
    chosen = resolved(configuration, version)
    require_fit(configuration, chosen)
    pointer = store.promote(configuration, chosen, operator(), why, expected=seen, approved_by=operator())
    _say(f"current: version {pointer.version}")


@models.command()
def rollback(config: ConfigOption = None, why: WhyOption = "rollback") -> None:
    """Makes the version current that was so before, if it fits as for `promote`; nothing is fitted anew."""
    from stream_detector.registry import store

    configuration = settings(config)
    check = partial(require_fit, configuration)
    pointer = store.rollback(configuration, operator(), why, approved_by=operator(), check=check)
    _say(f"current: version {pointer.version}, before {pointer.previous}")


@models.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="Newest versions to keep.")],
    config: ConfigOption = None,
) -> None:
    """Deletes old versions, never one that is current, previous, approved or in shadow."""
    from stream_detector.registry import store

    gone = store.prune(settings(config), keep)
    _say(f"deleted {len(gone)}: {', '.join(version[:16] for version in gone)}" if gone else "nothing to delete")


@models.command()
def shadow(
    version: Annotated[str | None, typer.Argument(help="Version, or its first characters.")] = None,
    off: Annotated[bool, typer.Option("--off", help="End it.")] = False,
    config: ConfigOption = None,
    why: WhyOption = "shadow",
) -> None:
    """Has workers score a candidate, which must fit as for `promote`, beside the model in force; see `compare`."""
    from stream_detector.registry import store

    if off == (version is not None):
        raise typer.BadParameter("give either a VERSION or --off")
    configuration = settings(config)
    chosen = resolved(configuration, version) if version else None
    if chosen:
        require_fit(configuration, chosen)
    store.shadow(configuration, chosen, operator(), why)
    _say(f"in shadow: version {chosen}" if chosen else "nothing in shadow")


@models.command()
def compare(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Compares the candidate in shadow with the model in force: alerts added and lost, agreement, alert rates."""
    from stream_detector.registry import model_pointer
    from stream_detector.worker.shadow import compared

    configuration = settings(config)
    candidate = model_pointer.shadow(configuration)
    if candidate is None:
        raise ModelNotFoundError("no candidate is in shadow; choose one with 'stream-detector models shadow VERSION'")
    found = compared(configuration, candidate.version, resolved(configuration, "current"))
    if as_json:
        answer_in_json(found.to_json())
        return
    table = Table("", "candidate", "in force", title=f"{found.records:,} records judged by both")
    table.add_row("version", found.candidate[:16], found.champion[:16])
    table.add_row("alerts", f"{found.candidate_alerts:,}", f"{found.champion_alerts:,}")
    rates = (alerts / max(found.records, 1) for alerts in (found.candidate_alerts, found.champion_alerts))
    table.add_row("alert rate", *(f"{rate:.4%}" for rate in rates))
    answers.print(table)
    answers.print(
        f"added {found.alerts_added:,}, lost {found.alerts_lost:,}, agreement {found.agreement:.1%} of all alerts",
    )
    for what, ids in (("added", found.added), ("lost", found.lost)):
        if ids:
            answers.print(f"{what}, for example: {', '.join(map(printable, ids))}")


def _say(text: str) -> None:
    console.print(text, soft_wrap=True)


def resolved(configuration: Config, version: str) -> str:
    """The version that a user means by its first characters, or by `current`."""
    from stream_detector.registry import store

    if version != "current":
        return store.resolve(configuration, version)
    if (pointer := store.current(configuration)) is None:
        raise ModelNotFoundError(
            f"topic {configuration.topics.models!r} holds no model yet; publish one with 'stream-detector fit --publish'"
        )
    return pointer.version


def require_fit(configuration: Config, version: str) -> None:
    """Raises a `ModelError` when a published version is not sound, or does not fit what the telemetry topics hold."""
    from stream_detector.model import DetectorModel
    from stream_detector.registry import store
    from stream_detector.registry.suitability import require_suitable

    require_suitable(DetectorModel.from_bytes(store.fetch(configuration, version)), configuration)
