"""The commands `fit` and `score`: from data to a model, and from a model and data to scores."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_detector.cli.common import (
    ConfigOption,
    console,
    operator,
    prepare_scoring,
    progress_bar,
    settings,
    show_features,
)
from stream_detector.config import Config
from stream_detector.errors import ConfigError, ModelSchemaError
from stream_detector.foreign import printable
from stream_detector.runtime.files import check_target

if TYPE_CHECKING:
    from stream_detector.model import DetectorModel
    from stream_detector.registry.model_pointer import Pointer
    from stream_detector.table_scoring import ScoredRows
    from stream_detector.tracking.run_directory import RunDirectory

__all__ = ["fit", "score"]

TABLES = "CSV, JSON lines, Parquet, Feather or .npz (array X), compressed or not; - is standard input"
NAMED = 5  # rows that could not be used, by name


def fit(
    file: Annotated[Path | None, typer.Argument(help=f"Normal records: {TABLES}.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Model artifact to write.")] = None,
    config: ConfigOption = None,
    from_topic: Annotated[
        bool, typer.Option("--from-topic", help="Read the telemetry topics instead of a file.")
    ] = False,
    records: Annotated[int, typer.Option(min=60, help="With --from-topic: how many records; waits for them.")] = 20_000,
    publish: Annotated[bool, typer.Option("--publish", help="Make it the current model on the models topic.")] = False,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing when a current model exists; nobody approves what is made.")
    ] = False,
    trim: Annotated[
        bool | None,
        typer.Option(
            "--trim/--no-trim",
            help="Leave records out that lie far beyond all others, as anomalies do. Default: with --from-topic.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Overrides the configuration's seed.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Folder in which the training keeps a run directory of its own.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Run directory of an interrupted fit; goes on where it stopped.")
    ] = None,
) -> None:
    """Fits a model on normal records, from a file or from the telemetry topics."""
    _require_source_and_target((file is not None, from_topic), (out, publish or None, run_dir, resume))
    configuration = settings(config)
    if out is not None:
        check_target(out)
    if if_missing and _published(configuration):
        return
    prepare_scoring(configuration)
    from stream_detector.retraining.first_fit import fit_file, fit_topics

    chosen, run = _run(configuration, seed, run_dir, resume)
    with progress_bar() as progress:
        if file is not None:
            model = fit_file(file, configuration, chosen, progress, run, trim=bool(trim))
        else:
            model = fit_topics(configuration, records, chosen, progress, run, trim=trim is not False)
    show_features(model.lineage)
    if run is not None:
        console.print(f"run directory: {printable(run.path)}", soft_wrap=True)
    _deliver(configuration, model, out, publish=publish, unattended=if_missing)


def score(
    model: Annotated[Path, typer.Argument(help="Model artifact.")],
    file: Annotated[Path, typer.Argument(help=f"Records: {TABLES}.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Table to write: .jsonl, .csv, .parquet or .npz; - is standard output.")
    ] = Path("-"),
    config: ConfigOption = None,
) -> None:
    """Scores records: id, the scores inversion, discriminator and anomaly in nines (3 = one normal record in 1,000),
    whether the target alert rate flags it, the leading features, and why a record could not be used.

    A table that lacks more than half of the model's features is exit code 3; one that lacks some is told which.
    """
    configuration = settings(config)
    prepare_scoring(configuration)
    from stream_detector.model import DetectorModel
    from stream_detector.table_scoring import score_table
    from stream_detector.tables.reading import open_table
    from stream_detector.tables.records import categories
    from stream_detector.tables.writing import require_writable, write_batches

    require_writable(out)
    detector = DetectorModel.load(model)
    texts = {configuration.record.entity_path} if detector.context else set()
    table = open_table(file, categories(detector.schema) | texts)
    counts: Counter[str] = Counter()
    write_batches(out, (_counted(each, counts).columns() for each in score_table(detector, table, configuration)))
    for remark in table.remarks:
        console.print(printable(remark), soft_wrap=True)
    console.print(
        f"wrote {printable(out)}: {counts['records']:,} records, {counts['flagged']:,} flagged, "
        f"{counts['unusable']:,} that could not be used",
        soft_wrap=True,
    )


def _counted(judged: "ScoredRows", counts: Counter[str]) -> "ScoredRows":
    """Counts rows, and names features that are not there, and the first rows that cannot be used."""
    if judged.lacking:
        console.print(printable(judged.lacking), soft_wrap=True)
    for fault in list(judged.faults.values())[: max(0, NAMED - counts["unusable"])]:
        console.print(f"not used: {printable(fault)}", soft_wrap=True)
    counts.update(records=len(judged.ids), flagged=int(judged.flagged.sum()), unusable=len(judged.faults))
    return judged


def _require_source_and_target(sources: tuple[bool, bool], targets: tuple[object, ...]) -> None:
    if sum(sources) != 1:
        raise ConfigError("give either a FILE of normal records or --from-topic")
    if all(target is None for target in targets):
        raise ConfigError("say where the model goes: --out MODEL, --publish, --run-dir FOLDER, or several of them")


def _deliver(
    configuration: Config, model: "DetectorModel", out: Path | None, *, publish: bool, unattended: bool
) -> None:
    """Writes the model to `out` and publishes it, as far as either is wanted."""
    if out is not None:
        model.save(out)
        console.print(f"wrote {printable(out)}: version {model.version}", soft_wrap=True)
    if publish:
        pointer = _publish(configuration, model, unattended=unattended)
        console.print(f"published as current: version {pointer.version}", soft_wrap=True)


def _run(
    configuration: Config, seed: int | None, parent: Path | None, resume: Path | None
) -> "tuple[int, RunDirectory | None]":
    """Seed and run directory: a new one in `parent`, or the one to resume, which has its own seed."""
    from stream_detector.retraining.first_fit import new_run
    from stream_detector.tracking.run_directory import RunDirectory

    if resume is not None:
        run = RunDirectory.open(resume)
        return run.seed if seed is None else seed, run
    chosen = configuration.seed if seed is None else seed
    return chosen, new_run(parent, configuration, chosen) if parent else None


def _publish(configuration: Config, model: "DetectorModel", *, unattended: bool) -> "Pointer":
    """Publishes the model as a person's choice; `unattended`, only if there still is no model.

    A model that does not fit what the telemetry topics hold is a version that nothing points to.
    """
    from stream_detector.registry import store
    from stream_detector.registry.suitability import require_suitable

    artifact = model.to_bytes()
    try:
        require_suitable(model, configuration)
    except ModelSchemaError:
        version = store.store(configuration, artifact)
        console.print(f"published, not as current: version {version}", soft_wrap=True)
        raise
    if unattended:
        why = "first fit, automatic (--if-missing)"
        return store.publish(configuration, artifact, operator(), why, expected=store.NOTHING)
    return store.publish(configuration, artifact, operator(), "first fit", approved_by=operator())


def _published(configuration: Config) -> bool:
    from stream_detector.registry import store

    if (pointer := store.current(configuration)) is None:
        return False
    console.print(f"a model is current already: version {pointer.version}; nothing to do")
    return True
