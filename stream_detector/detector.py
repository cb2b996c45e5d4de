"""The record road: consumed messages in, alerts and dead letters out; pure, no I/O.

    bytes -> decode -> score (normalise, invert, discriminate, calibrate, combine)
          -> context, which the record teaches -> threshold -> explain the flagged -> alert

A part of a batch is scored while the next is decoded, and a batch may be begun before its thresholds
are what they will be when it is finished.

What comes out is a function of each partition's log and the model alone. Messages of one
partition must come in offset order; how they are cut into batches does not matter.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stream_detector.absence import by_feature, unseen, within
from stream_detector.config import ThresholdConfig
from stream_detector.context.epochs import PartitionContext
from stream_detector.contexts import NO_CONTEXTS, Contexts, completed, counted, scored_in_context, teach, told
from stream_detector.features import Encoded
from stream_detector.model import DetectorModel, Scores
from stream_detector.records import (
    Alert,
    Arrivals,
    Contribution,
    DeadLetter,
    Decoded,
    Decoder,
    Message,
    TooMuchAtOnce,
    TopicPartition,
    raw,
    values_of,
)
from stream_detector.scoring.calibration import six_digits
from stream_detector.scoring.explanation import Explanation
from stream_detector.scoring.threshold import Limits, NewsScore, RollingThreshold, Threshold, Unseen
from stream_detector.scoring_pool import ScoringPool

__all__ = ["Begun", "Judged", "Outcome", "begin", "detect", "finish", "history", "learn", "limits"]

EXPLAINED = 1_000  # records explained at once: a flood of them takes seconds
MOST_BYTES = 512 * 2**20  # bytes of features that a batch of messages with many records each may have
LEAST = 1_024  # messages of a part, unless a message may hold many records
SEVERITIES = ((3.0, "critical"), (2.0, "major"), (1.0, "minor"))


@dataclass(frozen=True, slots=True)
class Judged:
    """Scored records in the order of the batch: runs of rows that are of one partition, offsets int64 [row], and scores.

    `missing` are by feature the rows that lack it, `unseen` by the feature's position those with a category that
    fitting never saw; both ascending.
    """

    runs: tuple[tuple[TopicPartition, slice], ...]
    offsets: NDArray[np.int64]
    scores: Scores
    missing: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    unseen: Unseen = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ends of all records of a batch: `normal + len(alerts) + len(dead_letters)` = records.

    A message of many records that cannot be used is one dead letter. `read` are the counts of the contexts that were read.
    """

    alerts: tuple[Alert, ...]
    dead_letters: tuple[DeadLetter, ...]
    normal: int
    judged: tuple[Judged, ...] = ()
    read: Counter[str] = field(default_factory=Counter)

    @property
    def records(self) -> int:
        """The number of records."""
        return self.normal + len(self.alerts) + len(self.dead_letters)


@dataclass(frozen=True, slots=True)
class BatchPart:
    """Messages of a batch, decoded; `scores` waits for what is being computed meanwhile."""

    messages: Arrivals
    decoded: Decoded
    scores: Callable[[], Scores]
    contexts: Contexts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """A batch decoded, and scored or being scored; its `model` and `decoder` are what it is finished with."""

    model: DetectorModel
    decoder: Decoder
    parts: Sequence[BatchPart]
    pool: ScoringPool | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A row whose score exceeds its threshold: the record's `features` [feature] in the input's units, its scores
    [score], in the order of `Scores.columns`, and the nines of its views by name, if the model has some.
    """

    part: BatchPart
    row: int
    features: NDArray[np.float32]
    scores: NDArray[np.float32]
    threshold: Threshold
    views: Mapping[str, np.float32] = field(default_factory=dict)


def detect(
    messages: Sequence[Message],
    model: DetectorModel,
    thresholds: Mapping[TopicPartition, RollingThreshold],
    decoder: Decoder,
    contexts: Contexts = NO_CONTEXTS,
) -> Outcome:
    """Judges a batch; moves the thresholds and contexts of its partitions forward.

    `thresholds` holds one for every (topic, partition) in the batch; one that `contexts` lacks begins anew.
    """
    return finish(begin(messages, model, decoder), thresholds, contexts)


def begin(
    messages: Sequence[Message], model: DetectorModel, decoder: Decoder, pool: ScoringPool | None = None
) -> Begun:
    """Decodes a batch and has it scored; nothing is decided and nothing moved, so it may be dropped, too.

    The `pool` scores a part while the next is decoded; without one, scores are computed when they are asked for.
    Raises `TooMuchAtOnce` for several messages that hold more rows than a batch should.
    """
    arrivals = Arrivals.of(messages)
    pieces = [arrivals] if model.device_scorer else _pieces(arrivals, decoder)
    at_once = len(pieces) == 1 and not model.device_scorer  # there is nothing to decode meanwhile
    parts, taken = [], 0
    for piece in pieces:
        parts.append(_begin(piece, model, decoder, None if at_once else pool))
        taken += parts[-1].decoded.features.nbytes
        if decoder.many and taken > MOST_BYTES and len(arrivals) > 1:
            raise TooMuchAtOnce(len(piece), len(parts[-1].decoded.kept))
    return Begun(model, decoder, parts, pool)


def finish(
    begun: Begun,
    thresholds: Mapping[TopicPartition, RollingThreshold],
    contexts: Contexts = NO_CONTEXTS,
    beat: Callable[[], None] = lambda: None,
) -> Outcome:
    """Judges a batch that was begun; moves the thresholds and contexts of its partitions forward.

    `beat` is called between explanations, which take long.
    """
    model, decoder, parts = begun.model, begun.decoder, begun.parts
    read: Counter[str] = Counter()
    if model.context:
        contexts = completed(contexts, model, (place for part in parts for place, _ in part.messages.runs))
        before = counted(contexts)
        parts = [_in_context(part, model, contexts, begun.pool) for part in parts]
        read = counted(contexts) - before
    judged: list[Judged] = []
    flagged: list[Hit] = []
    for part in parts:  # in order: while one is held against its thresholds, the next is being scored
        judged.append(_judge(part, model))
        flagged += _flag(part, judged[-1], thresholds)
    alerts = tuple(_alerts(_reconsidered(flagged, model), model, decoder, beat))
    dead_letters = tuple(letter for part in parts for letter in _dead_letters(part))
    normal = sum(len(part.decoded.kept) for part in parts) - len(alerts)
    return Outcome(alerts, dead_letters, normal, tuple(judged), read)


def history(
    messages: Sequence[Message], model: DetectorModel, decoder: Decoder, context: PartitionContext | None = None
) -> list[float]:
    """Scores of the usable records of one partition, in order, for a threshold window; nothing is judged.

    They teach the `context`, where the model has one.
    """
    arrivals = Arrivals.of(messages)
    part = _begin(arrivals, model, decoder, None)
    if model.context and arrivals.runs:
        alone = part.scores()  # what fails, fails before the context is taught
        contexts = {arrivals.runs[0][0]: context or model.context.begin()}
        part = _in_context(replace(part, scores=lambda: alone), model, contexts, None)
    scores: list[float] = _decimals(part.scores().anomaly).tolist()
    news: dict[int, list[int]] = {}
    for feature, rows in unseen(model.schema, part.decoded.features).items():
        for row in rows.tolist():
            news.setdefault(row, []).append(feature)
    for row, features in news.items():
        scores[row] = NewsScore.of(scores[row], features)
    return scores


def learn(messages: Sequence[Message], model: DetectorModel, decoder: Decoder, context: PartitionContext) -> None:
    """Has the usable records of one partition teach its context, in order; nothing is scored."""
    decoded = decoder.decode(values_of(messages), model.schema, model.usual_features, told=True)
    teach(Arrivals.of(messages), decoded, model, context)


def limits(model: DetectorModel, config: ThresholdConfig) -> Limits:
    """The span and bounds of thresholds under this model's calibration."""
    rate = config.target_alert_rate
    return Limits(
        target_alert_rate=rate,
        window=config.window,
        warmup=config.warmup,
        nominal=model.threshold(rate),
        floor=model.threshold(rate * config.slack),
        ceiling=model.threshold(rate / config.slack),
    )


def _pieces(messages: Arrivals, decoder: Decoder) -> list[Arrivals]:
    """The batch, cut into a few parts: each a third of what is left, for every one has its cost, and the last is waited for."""
    least = 1 if decoder.many else LEAST
    pieces, first = [], 0
    while first < len(messages):
        end = first + max((len(messages) - first) // 3, least)
        pieces.append(messages[first:end])
        first = end
    return pieces


def _begin(messages: Arrivals, model: DetectorModel, decoder: Decoder, pool: ScoringPool | None) -> BatchPart:
    """A part, decoded and being scored by the pool; without one, it is scored when it is asked for."""
    told, score = model.context is not None, model.score_alone if model.context else model.score
    decoded = decoder.decode(values_of(messages), model.schema, model.usual_features, told=told)
    records = Encoded.whole(decoded.features)
    scores = pool.begin(model, records) if pool else partial(score, records)
    return BatchPart(messages, decoded, scores)


def _in_context(part: BatchPart, model: DetectorModel, contexts: Contexts, pool: ScoringPool | None) -> BatchPart:
    """The part, its records judged by what their entities did before, too."""
    scores = scored_in_context(part.messages, part.decoded, part.scores, model, contexts, pool)
    return replace(part, scores=scores, contexts=contexts)


def _judge(part: BatchPart, model: DetectorModel) -> Judged:
    """Waits for the scores, and says where the rows lie in the log."""
    positions = part.decoded.positions
    features, schema = part.decoded.features, model.schema
    missing, news = by_feature(schema, features), unseen(schema, features)
    runs = part.messages.rows(positions)
    return Judged(runs, part.messages.offsets[positions], part.scores(), missing, news)


def _flag(part: BatchPart, judged: Judged, thresholds: Mapping[TopicPartition, RollingThreshold]) -> Iterator[Hit]:
    """Rows whose score exceeds its threshold."""
    decimals = _decimals(judged.scores.anomaly)
    for place, rows in judged.runs:
        news = {feature: among[within(among, rows)] - rows.start for feature, among in judged.unseen.items()}
        for at, threshold in thresholds[place].flag(decimals[rows], news).items():
            row, scores = rows.start + at, judged.scores
            views = {name: nines[row] for name, nines in scores.views.items()}
            yield Hit(part, row, part.decoded.features[row], scores.of_record(row), threshold, views)


def _reconsidered(flagged: list[Hit], model: DetectorModel) -> list[Hit]:
    """Drops those that exceed their threshold by a category never seen alone, where new ones are usual by now.

    There such a value says nothing: the record is judged with that of the most similar normal one instead, and
    explained so. Its score stays the one that the model gives it.
    """
    doubted = [at for at, hit in enumerate(flagged) if hit.threshold.usual]
    if not doubted:
        return flagged
    records = np.stack([flagged[at].features for at in doubted])
    mask = np.zeros(records.shape, dtype=np.bool_)
    for row, at in enumerate(doubted):
        mask[row, list(flagged[at].threshold.usual)] = True
    records = model.scorer.completed(records, mask)
    alone = model.score_alone(Encoded.whole(records)).anomaly
    if model.context:
        alone = model.context.joined(alone, np.array([flagged[at].views["context"] for at in doubted]))
    scores = _decimals(alone).tolist()
    again = dict(zip(doubted, zip(records, scores, strict=True), strict=True))
    left = []
    for at, hit in enumerate(flagged):
        if at not in again:
            left.append(hit)
        elif again[at][1] > hit.threshold.value:
            left.append(replace(hit, features=again[at][0]))
    return left


def _dead_letters(part: BatchPart) -> Iterator[DeadLetter]:
    return (DeadLetter.of(part.messages[position], why) for position, why in sorted(part.decoded.rejected.items()))


def _alerts(flagged: list[Hit], model: DetectorModel, decoder: Decoder, beat: Callable[[], None]) -> Iterator[Alert]:
    """Explains what is flagged, a part at a time."""
    for first in range(0, len(flagged), EXPLAINED):
        hits = flagged[first : first + EXPLAINED]
        explanations = model.explain(Encoded.whole(np.stack([hit.features for hit in hits])))
        yield from (_alert(*pair, model, decoder) for pair in zip(hits, explanations, strict=True))
        beat()


def _alert(hit: Hit, explanation: Explanation, model: DetectorModel, decoder: Decoder) -> Alert:
    row, threshold, decoded = hit.row, hit.threshold, hit.part.decoded
    message, document = hit.part.messages[decoded.kept[row]], decoded.documents[row]
    event_id, entity, event_time = decoder.identity(document)
    inversion, discriminator, *others, score = _decimals(hit.scores).tolist()
    passed_over = frozenset(model.schema.names[feature] for feature in threshold.usual)
    features = explanation.revealing(partial(decoder.category, document), passed_over)
    return Alert(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=raw(message.key()),
        event_id=event_id,
        entity=entity,
        event_time=event_time,
        detection_time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        model_version=model.version,
        score=score,
        threshold=threshold.value,
        threshold_state="warming" if threshold.warming else "rolling",
        inversion=inversion,
        discriminator=discriminator,
        severity=_severity(score - threshold.value),
        contributions=tuple(Contribution(*each) for each in features.features),
        row=decoded.rows[row] if decoded.rows else None,
        others=tuple(zip(model.scorer.panel.told[2:], others, strict=True)),
        context=told(model, hit.views, hit.part.contexts, message) if model.context else None,
    )


def _severity(excess: float) -> str:
    """The severity, as a word, of a score so many nines above its threshold."""
    return next((word for least, word in SEVERITIES if excess >= least), "warning")


def _decimals(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores as the doubles their 6 significant digits name, so that what is compared is what is stored."""
    return six_digits(scores.astype(np.float64))
