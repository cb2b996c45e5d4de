"""Scores the rows of a table: scores, flags at the target alert rate, and the leading features."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_detector import foreign
from stream_detector.absence import lacking_columns, telling
from stream_detector.config import Config
from stream_detector.features import Encoded, encode
from stream_detector.model import DetectorModel, ModelStream, Scores, as_matrix
from stream_detector.records import identity
from stream_detector.records.event_times import entities_and_times
from stream_detector.tables.reading import Row, Table
from stream_detector.tables.records import features_of

__all__ = ["ScoredRows", "score_table"]

BATCH = 16_384  # rows judged at once
LEADING = 3  # features that are named of a flagged row


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Scored rows of a table, in order.

    `ids` are what `record.id_path` names, or the row's number from 0. `scores` are float32 [row, score] in nines
    by `names`, NaN for a row that cannot be used; `flagged` bool [row]; `leading` has the
    features of flagged rows that the surprise is due to, the greatest share first; `faults` the reason of each
    unusable row, by its position, and where it stands. `lacking` are features that the table has not, told once.
    """

    ids: list[str]
    names: tuple[str, ...]
    scores: NDArray[np.float32]
    flagged: NDArray[np.bool_]
    leading: list[list[dict[str, Any]]]
    faults: dict[int, str]
    lacking: str | None = None

    def columns(self) -> dict[str, Any]:
        """The rows as equally long columns by name, for writing."""
        return {
            "id": self.ids,
            **dict(zip(self.names, self.scores.T, strict=True)),
            "flagged": self.flagged.tolist(),
            "features": self.leading,
            "fault": [self.faults.get(row, "") for row in range(len(self.ids))],
        }


def score_table(model: DetectorModel, table: Table, config: Config) -> Iterator[ScoredRows]:
    """Scores the rows of a table, batch by batch, and flags them at `threshold.target_alert_rate`.

    Raises `DataError` when a matrix without names has another width than the model, or holds infinities, and when
    the first rows have less than half of its features.
    """
    first, stream = 0, model.stream()
    for ids, encoded, rows, features in _batches(model, table, config):
        lacking = _lacking(model, features, table) if not first else None
        scored = _scored(stream, encoded, rows, first, config) if model.context else model.score(encoded)
        names, flagged = (*scored.names, *scored.views), np.zeros(len(ids), dtype=bool)
        scores = np.full((len(ids), len(names)), np.nan, dtype=np.float32)
        scores[encoded.kept] = np.column_stack((scored.columns(), *scored.views.values()))
        flagged[encoded.kept] = scored.flagged(config.threshold.target_alert_rate)
        faults = {row: f"{table.place(first + row)}: {why.message}" for row, why in encoded.rejected.items()}
        yield ScoredRows(ids, names, scores, flagged, _leading(model, encoded, flagged, features), faults, lacking)
        first += len(ids)


def _scored(stream: ModelStream, encoded: Encoded, rows: Sequence[Row], first: int, config: Config) -> Scores:
    """Scores rows by their contexts, too: a table is the log of one partition, and a row that cannot be used a hole."""
    offsets = first + np.array(encoded.kept, np.int64)
    if not rows:
        return stream.score(encoded, offset=offsets)
    entities, times = entities_and_times([rows[row] for row in encoded.kept], config.record)
    return stream.score(encoded, entities, times.view("datetime64[ns]"), offsets)


def _batches(
    model: DetectorModel, table: Table, config: Config
) -> Iterator[tuple[list[str], Encoded, Sequence[Row], Sequence[Mapping[str, Any]]]]:
    """Ids and matrix of each batch of rows, and the rows and their features by name where they have names."""
    if table.matrix is not None:
        matrix = as_matrix(table.matrix, model.schema)
        for start in range(0, len(matrix), BATCH):
            part = matrix[start : start + BATCH]
            yield [str(start + row) for row in range(len(part))], Encoded(part, list(range(len(part))), {}), (), ()
        return
    rows, first = iter(table.rows), 0
    while batch := list(islice(rows, BATCH)):
        features = [features_of(row, config.record) for row in batch]
        encoded = telling(encode(model.schema, features, config.record.max_string), model.schema, features)
        yield _ids(batch, first, config), encoded, batch, features
        first += len(batch)


def _lacking(model: DetectorModel, rows: Sequence[Mapping[str, Any]], table: Table) -> str | None:
    return lacking_columns(model.schema, set().union(*rows), table.source) if rows else None


def _ids(rows: Sequence[Row], first: int, config: Config) -> list[str]:
    found = (identity(row, config.record)[0] for row in rows)
    return [str(first + row) if each is None else each for row, each in enumerate(found)]


def _leading(
    model: DetectorModel, encoded: Encoded, flagged: NDArray[np.bool_], rows: Sequence[Mapping[str, Any]]
) -> list[list[dict[str, Any]]]:
    """The leading features of each flagged row; other rows have none."""
    leading: list[list[dict[str, Any]]] = [[] for _ in flagged]
    chosen = [at for at, row in enumerate(encoded.kept) if flagged[row]]
    for at, explanation in zip(chosen, model.explain(Encoded.whole(encoded.matrix[chosen])), strict=True):
        told = explanation.revealing(partial(_category, rows[encoded.kept[at]])) if rows else explanation
        leading[encoded.kept[at]] = [
            {
                "feature": each.name,
                "value": each.value,
                "expected": each.expected,
                "contribution": each.contribution,
                "direction": each.direction,
            }
            for each in told.features[:LEADING]
        ]
    return leading


def _category(row: Mapping[str, Any], name: str) -> str | None:
    return foreign.category(row.get(name))
