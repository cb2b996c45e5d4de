"""The tree of all errors that this project raises.

    StreamDetectorError              exit code 1
    ├── ConfigError                  2   a configuration file or value
    ├── DataError                    3   training or scoring data that cannot be used
    ├── ModelError                   4   a model artifact
    │   ├── ModelFormatError             not an artifact of ours, or a damaged one
    │   ├── ModelSchemaError             an artifact for other features than configured
    │   ├── ModelNotFoundError           no such version, or none published yet
    │   └── PointerMovedError            another model serves than the one expected
    ├── KafkaError                   5   the broker, or a topic on it
    │   ├── BrokerUnavailableError       nothing answers at the bootstrap address
    │   ├── TopicMissingError            a configured topic does not exist
    │   ├── AuthorizationError           an ACL or a credential is missing
    │   ├── FencedError                  another worker uses the same transactional id
    │   ├── OffsetsLostError             committed offsets are older than what is retained
    │   └── SchemaRegistryError          the Schema Registry does not answer, or refuses
    ├── EmbeddedBrokerError          6   the local broker could not be had or started
    ├── GateRefusedError             7   a candidate model that must not replace the champion
    ├── ReplayMismatchError          8   a judgement that comes out otherwise when it is repeated
    ├── NotRetainedError             9   an alert, record or model that its topic does not hold (any more)
    └── WriteError                  10   a file, or standard output, that cannot be written

A message names the key, topic or file, the value seen, and what to do. Bad *input* is not an
exception: a record that cannot be used is a `Rejection` value and ends as a dead letter.
"""

__all__ = [
    "AuthorizationError",
    "BrokerUnavailableError",
    "ConfigError",
    "DataError",
    "EmbeddedBrokerError",
    "FencedError",
    "GateRefusedError",
    "KafkaError",
    "ModelError",
    "ModelFormatError",
    "ModelNotFoundError",
    "ModelSchemaError",
    "NotRetainedError",
    "OffsetsLostError",
    "PointerMovedError",
    "ReplayMismatchError",
    "SchemaRegistryError",
    "StreamDetectorError",
    "TopicMissingError",
    "WriteError",
]


class StreamDetectorError(Exception):
    """Root of all errors of this project; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(StreamDetectorError):
    """A configuration file or value is wrong; several faults have a line each."""

    exit_code = 2

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class DataError(StreamDetectorError):
    """Data for fitting or scoring cannot be used as it is."""

    exit_code = 3


class ModelError(StreamDetectorError):
    """A model artifact cannot be used."""

    exit_code = 4


class ModelFormatError(ModelError):
    """The bytes are not a model artifact of this project, or are damaged."""


class ModelSchemaError(ModelError):
    """The model was fitted on other features than the configured or given ones."""


class ModelNotFoundError(ModelError):
    """The named version does not exist, or no model was published yet."""


class PointerMovedError(ModelError):
    """Another model serves than the one expected; somebody else was faster."""


class KafkaError(StreamDetectorError):
    """The broker, or a topic on it, does not do what is needed."""

    exit_code = 5


class BrokerUnavailableError(KafkaError):
    """Nothing answers at the bootstrap address."""


class TopicMissingError(KafkaError):
    """A configured topic does not exist."""


class AuthorizationError(KafkaError):
    """The broker denied an operation, or the credentials."""


class FencedError(KafkaError):
    """Another worker runs with the same transactional id."""


class OffsetsLostError(KafkaError):
    """Committed offsets are older than what the topic still holds."""


class SchemaRegistryError(KafkaError):
    """The Schema Registry does not answer, or refuses the credentials."""


class EmbeddedBrokerError(StreamDetectorError):
    """The local Kafka broker could not be fetched or started."""

    exit_code = 6


class GateRefusedError(StreamDetectorError):
    """A candidate model failed a check against the champion."""

    exit_code = 7


class ReplayMismatchError(StreamDetectorError):
    """A judgement repeated from the log differs from the one on record."""

    exit_code = 8


class NotRetainedError(StreamDetectorError):
    """An alert, record or model is not on its topic: never there, or deleted by retention."""

    exit_code = 9


class WriteError(StreamDetectorError):
    """A file, or standard output, cannot be written: a full disk, a missing right, no file at all."""

    exit_code = 10
