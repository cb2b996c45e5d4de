"""Fits without a champion to compare with: from a file, or from the newest telemetry."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any, cast

from stream_detector.config import Config
from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema, Rejection, encode
from stream_detector.fitting.fit import fit
from stream_detector.fitting.profiling import Learnt, barred, learn
from stream_detector.gan.settings import ModelConfig
from stream_detector.gan.training import Progress
from stream_detector.kafka import recent
from stream_detector.kafka.formats import decoder
from stream_detector.model import DetectorModel
from stream_detector.records import Message, raw
from stream_detector.records.documents import time_remarks
from stream_detector.retraining.telemetry_window import TelemetryReader
from stream_detector.tables.reading import Table, open_table
from stream_detector.tables.records import categories, features_of, is_flat, label_of
from stream_detector.tracking.run_directory import RunDirectory

__all__ = ["fit_file", "fit_topics", "new_run"]

POLL_SECONDS = 1.0


def fit_file(
    path: Path, config: Config, seed: int, progress: Progress, run: RunDirectory | None = None, *, trim: bool = False
) -> DetectorModel:
    """A model of the normal records in a table, `-` is standard input; raises `DataError` when they cannot be used."""
    declared = config.declared_schema
    table = open_table(path, categories(declared))
    records: Any
    with _naming(table.source):
        if table.matrix is None:
            records, schema = _learnt(table, config, progress), None
        else:
            records, schema = table.matrix, declared
            progress(0, 1, f"{table.source}: {len(records):,} records")
        return fit(records, schema, _model_config(config), seed, config.worker.device, progress, run, trim=trim)


def fit_topics(
    config: Config, count: int, seed: int, progress: Progress, run: RunDirectory | None = None, *, trim: bool = True
) -> DetectorModel:
    """A model of the newest `count` records of the telemetry topics, waiting until there are as many.

    The artifact's lineage names the offsets. Raises `DataError` when too few of them can be read.
    """
    reader = decoder(config.record)
    messages = _awaited(config, count, progress)
    read = reader.read([raw(message.value()) for message in messages], config.declared_schema)
    where = ", ".join(config.topics.telemetry)
    unreadable = list(read.rejected.values())
    _require_usable(unreadable, len(messages), where)
    out = barred(config, flat=not config.record.features_path)
    with _naming(where):
        learnt = learn(read.features, config.declared_schema, out, lambda row: _place(messages[read.kept[row]]))
        learnt, unusable = _usable(learnt, config)
        unusable += unreadable
        _require_usable(unusable, len(read.features) + len(unreadable), where)
        told = time_remarks(read.documents, config.record)
        learnt = replace(learnt, origin={"read": told, "offsets": _offsets(messages), "unusable": len(unusable)})
        return fit(learnt, None, _model_config(config), seed, config.worker.device, progress, run, trim=trim)


def new_run(parent: Path, config: Config, seed: int) -> RunDirectory:
    """A folder in `parent` for one fit with this configuration and seed; raises `ConfigError`."""
    return RunDirectory.create(parent, _model_config(config).model_dump(mode="json"), seed)


def _awaited(config: Config, count: int, progress: Progress) -> list[Message]:
    """The fewest newest messages that hold `count` records, once there are as many.

    A message that cannot be read counts as a record; what has an offset and is no message does not count.
    """
    reader = TelemetryReader(config)
    size, least = (reader.size, 1) if reader.many else (None, count)  # offsets that `count` records take at least
    wanted, found = least, 0
    while True:
        spans = recent.retained(config).values()
        available, ends = sum(end - start for start, end in spans), sum(end for _, end in spans)
        if available >= least and ends >= wanted:
            messages = cast("list[Message]", recent.newest(config, count, size))
            found = sum(map(reader.size, messages))
            if found >= count:
                return messages
            wanted = ends + (1 if reader.many else count - found)
        shown = found or (0 if reader.many else min(available, count))
        progress(shown, count, f"waiting for telemetry: {shown:,} of {count:,} records")
        sleep(POLL_SECONDS)


def _learnt(table: Table, config: Config, progress: Progress) -> Learnt:
    """Learns the features of a table's rows, without those that cannot be used."""
    rows = list(table.rows)
    progress(0, 1, f"{table.source}: {len(rows):,} records")
    records = [features_of(row, config.record) for row in rows]
    declared = config.declared_schema
    out = _label(records, declared) | barred(config, flat=is_flat(rows, config.record))
    learnt, unusable = _usable(learn(records, declared, out, table.place), config)
    _require_usable(unusable, len(rows), table.source)
    told = [*table.remarks, *time_remarks(rows, config.record)]
    return replace(learnt, origin={"read": told, "unusable": len(unusable)})


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Puts the records' source before the message of a `DataError` in the block."""
    try:
        yield
    except DataError as error:
        if str(error).startswith(where):
            raise
        raise DataError(f"{where}: {error}") from None


def _label(rows: Sequence[Mapping[str, Any]], declared: FeatureSchema | None) -> dict[str, str]:
    """The column of labels with a reason to leave it out, unless it is declared as a feature."""
    name = label_of(rows)
    return {} if name is None or (declared and name in declared.names) else {name: "taken as the label"}


def _usable(learnt: Learnt, config: Config) -> tuple[Learnt, list[Rejection]]:
    """Splits rows into those that can be encoded, and the reasons why the others cannot."""
    encoded = encode(learnt.schema, learnt.rows, config.record.max_string)
    return replace(learnt, rows=[learnt.rows[row] for row in encoded.kept]), list(encoded.rejected.values())


def _require_usable(unusable: Sequence[Rejection], records: int, where: str) -> None:
    """Raises `DataError` when more than half of the records are unusable; it says why most of them are."""
    if len(unusable) > records // 2:
        (why, _), *_ = Counter(reason.message for reason in unusable).most_common(1)
        raise DataError(
            f"{where}: {len(unusable):,} of {records:,} records cannot be used ({why}); check record.features_path "
            '("" = the record itself holds the features) and features against what there is'
        )


def _place(message: Message) -> str:
    return f"record {message.topic()}-{message.partition()}-{message.offset()}"


def _offsets(messages: list[Message]) -> dict[str, list[int]]:
    """First and last offset read, by `topic-partition`."""
    ranges: dict[str, list[int]] = {}
    for message in messages:
        offset = message.offset() or 0
        first_last = ranges.setdefault(f"{message.topic()}-{message.partition()}", [offset, offset])
        first_last[0], first_last[1] = min(first_last[0], offset), max(first_last[1], offset)
    return dict(sorted(ranges.items()))


def _model_config(config: Config) -> ModelConfig:
    return ModelConfig(model=config.model, inversion=config.inversion)
