"""Checks that a model fits the records that it is to judge: by the configuration, and by what the topics hold.

A feature that is missing is imputed, so without this a model of another topic would score, and mean nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import structlog

from stream_detector.absence import compared, is_foreign, present_names
from stream_detector.config import Config
from stream_detector.errors import KafkaError, ModelSchemaError, TopicMissingError
from stream_detector.features import FeatureSchema, Kind
from stream_detector.kafka import recent
from stream_detector.kafka.formats import decoder
from stream_detector.kafka.group import progress
from stream_detector.model import DetectorModel
from stream_detector.records import Message, values_of

__all__ = ["check_against", "check_at_start", "check_declared", "require_suitable"]

LEAST = 10  # readable records; fewer, such as a first try by hand, say nothing about a topic
SAMPLE = 100  # newest offsets of a partition that are looked at
PARTITIONS = 2  # of a topic that are looked at, the longest
MESSAGES = 3  # that are looked at where one holds many records
DEPTH = 4  # levels of a record in which the features are looked for
WIDTH = 4  # bytes of a float32

log = structlog.get_logger(__name__)


def require_suitable(model: DetectorModel, config: Config) -> None:
    """Raises `ModelSchemaError` when the model does not fit 'features:', or the newest records.

    Nothing is proved where there are hardly any records, or no topic yet.
    """
    check_declared(model, config)
    try:
        messages = _newest(config)
    except TopicMissingError:
        return
    check_against(model, messages, config)


def check_at_start(model: DetectorModel, config: Config) -> None:
    """Raises as `require_suitable` for a group that begins; one that has judged records goes on, and is warned.

    Records that changed under a running group are its dead letters, with or without a restart.
    """
    try:
        require_suitable(model, config)
    except ModelSchemaError as error:
        if all((each.committed or 0) <= each.low for each in progress(config)):
            raise
        log.warning("records have changed, the model does not fit them any more", why=str(error))
    except KafkaError as error:  # the worker waits longer by itself
        log.warning("the model could not be held against the telemetry topics", why=str(error))


def check_against(model: DetectorModel, messages: Sequence[Message], config: Config) -> None:
    """Raises `ModelSchemaError` when recent records have less than half of the model's features: it is of other records.

    A feature that none of them has, and records that cannot be read, are a warning.
    """
    reading = decoder(config.record)
    values = values_of(messages[-MESSAGES:] if reading.many else messages)
    if config.record.format == "float32":
        _check_width(model, values, config)
        return
    rows = reading.read(values)
    if not rows.features and len(values) >= LEAST:
        reason = Counter(why.message for why in rows.rejected.values()).most_common(1)[0][0]
        hint = _whereabouts(values, model.schema, config)
        log.warning("none of the newest records can be read", records=len(values), why=reason + hint)
    if len(rows.features) < LEAST:
        return
    names = present_names(rows.features)
    if is_foreign(model.schema, names):
        raise ModelSchemaError(
            f"model {model.version[:12]} is of other records than the newest {len(rows.features):,} of "
            f"{', '.join(config.topics.telemetry)}: {compared(model.schema, names)}"
            f"{_whereabouts(values, model.schema, config)}; was it fitted on another topic? Fit one on these records with "
            "'stream-detector fit --from-topic', or correct record.features_path"
        )
    if not names.issuperset(model.schema.names):
        what = compared(model.schema, names)
        log.warning("the newest records lack features of the model", model=model.version, features=what)


def _check_width(model: DetectorModel, values: Sequence[bytes | None], config: Config) -> None:
    """Compares the number of features, which is all that a vector tells; raises `ModelSchemaError`."""
    sizes = Counter(len(value) for value in values if value is not None)
    expected = WIDTH * len(model.schema.features)
    if sizes.total() >= LEAST and expected not in sizes:
        seen = sizes.most_common(1)[0][0]
        raise ModelSchemaError(
            f"model {model.version[:12]} reads float32 vectors of {expected} bytes ({', '.join(model.schema.names)}), and the "
            f"newest {sizes.total():,} records of {', '.join(config.topics.telemetry)} have others, most {seen} bytes; "
            "was it fitted on another topic?"
        )


def _newest(config: Config) -> list[Message]:
    """Reads the last records of the longest partitions of each topic."""
    whole = recent.retained(config)
    longest = sorted(whole, key=lambda partition: (whole[partition][0] - whole[partition][1], partition))
    taken: Counter[str] = Counter()
    reach: recent.Reach = {}
    for topic, partition in longest:
        start, end = whole[topic, partition]
        if start < end and taken[topic] < PARTITIONS:
            taken[topic] += 1
            reach[topic, partition] = max(start, end - SAMPLE), end
    return [cast("Message", message) for batch in recent.records(config, reach) for message in batch]


def _whereabouts(values: Sequence[bytes | None], schema: FeatureSchema, config: Config) -> str:
    """Says where in the records the features are, if they are elsewhere."""
    whole = decoder(config.record.model_copy(update={"features_path": ""})).read(values[:1])
    path = next((path for document in whole.features[:1] for path in _paths(document, schema, DEPTH)), None)
    if path is None or path == config.record.features_path:
        return ""
    return f"; the features are at {path!r}: set record.features_path"


def _paths(document: Mapping[str, Any], schema: FeatureSchema, depth: int) -> Iterator[str]:
    if not is_foreign(schema, document):
        yield ""
    for name, inner in document.items() if depth else ():
        if isinstance(inner, dict):
            yield from (f"{name}.{path}".removesuffix(".") for path in _paths(inner, schema, depth - 1))


def check_declared(model: DetectorModel, config: Config) -> None:
    """Raises `ModelSchemaError` when the model was fitted on other features than 'features:' declares."""
    declared = config.declared_schema
    if config.record.format == "float32":
        _check_vectors(model, declared)
    if declared is not None and not _sorted(declared).matches(_sorted(model.schema)):
        raise ModelSchemaError(
            f"model {model.version[:12]} was fitted on {', '.join(model.schema.names)}, but 'features:' declares "
            f"{', '.join(declared.names)}{_difference(model, declared)}; fit a model on these features, or correct the "
            "configuration"
        )


def _difference(model: DetectorModel, declared: FeatureSchema) -> str:
    """Says which names differ; empty where only kinds do."""
    return f" ({compared(model.schema, declared.names)})" if set(declared.names) != set(model.schema.names) else ""


def _check_vectors(model: DetectorModel, declared: FeatureSchema | None) -> None:
    """Raises `ModelSchemaError` unless order and number of features are the model's, and all are numbers."""
    if declared is not None and declared.names != model.schema.names:
        raise ModelSchemaError(
            f"model {model.version[:12]} reads float32 vectors as {', '.join(model.schema.names)}, but 'features:' "
            f"declares {', '.join(declared.names)}; correct the order, or fit a model on these features"
        )
    if any(feature.kind is Kind.CATEGORICAL for feature in model.schema.features):
        raise ModelSchemaError(
            f"model {model.version[:12]} has categorical features, which float32 vectors cannot hold; "
            "use another record.format, or a model of numbers"
        )


def _sorted(schema: FeatureSchema) -> FeatureSchema:
    """Sorts the features by name: records name them, so their order does not matter."""
    return replace(schema, features=tuple(sorted(schema.features, key=lambda feature: feature.name)))
