"""Fits without a champion to compare with: from a file, or from the newest telemetry."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any, cast

import numpy as np

from stream_detector.config import Config
from stream_detector.errors import DataError
from stream_detector.features import FeatureSchema, Rejection, encode
from stream_detector.fitting.contextual import ContextBasis, ContextData, PartitionLog, TeachingLogs
from stream_detector.fitting.fit import fit
from stream_detector.fitting.profiling import Learnt, barred, learn
from stream_detector.gan.settings import ModelConfig
from stream_detector.gan.training import Progress
from stream_detector.kafka import recent
from stream_detector.kafka.formats import decoder
from stream_detector.kafka.recent import Reach
from stream_detector.model import DetectorModel, as_matrix
from stream_detector.records import Message, raw
from stream_detector.records.documents import time_remarks
from stream_detector.records.event_times import entities_and_times
from stream_detector.retraining.context_window import read_context
from stream_detector.retraining.telemetry_window import TelemetryReader, record_ids
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
    texts = {config.record.entity_path} if config.context.enabled else set()
    table = open_table(path, categories(declared) | texts)
    records: Any
    logs: TeachingLogs | None
    with _naming(table.source):
        if table.matrix is None:
            records, logs = _learnt(table, config, progress)
            schema = None
        else:
            records, schema, logs = table.matrix, declared, TeachingLogs.one(len(table.matrix))
            progress(0, 1, f"{table.source}: {len(records):,} records")
        context, logs = (config.context, logs) if config.context.enabled else (None, None)
        settings = _model_config(config), seed, config.worker.device, progress, run
        return fit(records, schema, *settings, context=context, logs=logs, trim=trim)


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
        learnt, kept, unusable = _usable(learnt, config)
        unusable += unreadable
        _require_usable(unusable, len(read.features) + len(unreadable), where)
        told = time_remarks(read.documents, config.record)
        offsets = {f"{topic}-{part}": [start, end - 1] for (topic, part), (start, end) in _reach(messages).items()}
        learnt = replace(learnt, origin={"read": told, "offsets": offsets, "unusable": len(unusable)})
        context = None
        if config.context.enabled:
            names = record_ids(messages, read.kept, many=reader.many)
            context = _contexts(config, learnt, _reach(messages), [names[row] for row in kept])
        settings = _model_config(config), seed, config.worker.device, progress, run
        return fit(learnt, None, *settings, context=context, trim=trim)


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


def _learnt(table: Table, config: Config, progress: Progress) -> tuple[Learnt, TeachingLogs]:
    """Learns the features of a table's rows, without those that cannot be used, which leave holes in the log."""
    rows = list(table.rows)
    progress(0, 1, f"{table.source}: {len(rows):,} records")
    records = [features_of(row, config.record) for row in rows]
    declared = config.declared_schema
    out = _label(records, declared) | barred(config, flat=is_flat(rows, config.record))
    learnt, kept, unusable = _usable(learn(records, declared, out, table.place), config)
    _require_usable(unusable, len(rows), table.source)
    told = [*table.remarks, *time_remarks(rows, config.record)]
    whose = entities_and_times([rows[row] for row in kept], config.record)
    log = PartitionLog(np.arange(len(kept)), np.array(kept, np.int64), *whose)
    logs = TeachingLogs([log], config.record.entity_path or None, config.record.time_path or None)
    return replace(learnt, origin={"read": told, "unusable": len(unusable)}), logs


def _contexts(config: Config, learnt: Learnt, reach: Reach, names: Sequence[str]) -> ContextData:
    """Reads what contexts say of the records that `names` tell, as serving will read it."""
    record = config.record
    matrix = as_matrix(learnt.rows, learnt.schema)
    basis = ContextBasis.of(config.context, learnt.schema, matrix, record.entity_path, record.time_path)
    return read_context(config, reach, learnt.schema, basis, names)


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


def _usable(learnt: Learnt, config: Config) -> tuple[Learnt, Sequence[int], list[Rejection]]:
    """Splits rows into those that can be encoded, with their positions, and the reasons why the others cannot."""
    encoded = encode(learnt.schema, learnt.rows, config.record.max_string)
    kept = encoded.kept
    return replace(learnt, rows=[learnt.rows[row] for row in kept]), kept, list(encoded.rejected.values())


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


def _reach(messages: Sequence[Message]) -> Reach:
    """The stretches of offsets that the messages are of, by topic and partition."""
    found: Reach = {}
    for message in messages:
        place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
        start, end = found.get(place, (offset, 0))
        found[place] = min(start, offset), max(end, offset + 1)
    return dict(sorted(found.items()))


def _model_config(config: Config) -> ModelConfig:
    return ModelConfig(model=config.model, inversion=config.inversion)
