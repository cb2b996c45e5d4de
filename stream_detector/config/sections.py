"""The sections of the configuration: what each key means, its unit, range and default."""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from stream_detector.errors import ConfigError
from stream_detector.features import Feature, Kind

__all__ = [
    "DriftConfig",
    "FeatureConfig",
    "KafkaConfig",
    "LogConfig",
    "MetricsConfig",
    "RecordConfig",
    "Section",
    "ThresholdConfig",
    "TopicsConfig",
    "WorkerConfig",
]

TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
ADDRESS = re.compile(r"(?:[A-Za-z_]+://)?(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
SET_ELSEWHERE = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "metadata.broker.list": "kafka.bootstrap_servers",
    "group.id": "kafka.group_id",
    "group.protocol": "worker.group_protocol",
    "session.timeout.ms": "worker.session_timeout_ms",
    "max.poll.interval.ms": "worker.max_poll_interval_ms",
    "transaction.timeout.ms": "worker.transaction_timeout_ms",
    "auto.offset.reset": "worker.start_from",
}
"""Properties of the client that keys of ours set."""


def _topic(name: str) -> str:
    if not name or name in {".", ".."}:
        raise ValueError(f"{name!r} is no name that Kafka takes; give the topic's name")
    if not TOPIC_NAME.fullmatch(name):
        raise ValueError(f"{name!r:.80} is no name that Kafka takes: at most 249 letters, digits, '.', '_' and '-'")
    return name


def _addresses(text: str) -> str:
    """The brokers' addresses; errors do not show them, they may hold a password."""
    if "@" in text:
        raise ValueError(
            "an address of a broker has no user before an '@'; give kafka.sasl_password, and sasl.username in "
            "kafka.properties"
        )
    addresses = [address.strip() for address in text.split(",")]
    if not any(addresses):
        raise ValueError("is empty; give the brokers' addresses, as in 'host:9092,other:9092'")
    for address in addresses:
        found = ADDRESS.fullmatch(address)
        if not found or not 0 < int(found[1] or 9092) < 65_536:
            raise ValueError(f"address {addresses.index(address) + 1} is not of the form 'host:port'")
    return text


def _registries(text: str) -> str:
    """The registry's addresses; errors do not show them, they may hold a password."""
    for address in text.split(","):
        try:
            parts = urlsplit(address.strip())
            sound = parts.scheme in {"http", "https", "mock"} and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise ValueError("is no address of a Schema Registry, as in 'http://host:8081'")
    return text


def _group(name: str) -> str:
    if not (name.isascii() and name.isprintable()):
        raise ValueError("may hold printable ASCII alone: the client commits offsets of no other group")
    return name


def _property(name: str) -> str:
    if name in {"enable.auto.commit", "isolation.level", "transactional.id", "enable.auto.offset.store"}:
        raise ValueError("is set by the worker, exactly-once depends on it; leave it out")
    if name in SET_ELSEWHERE:
        raise ValueError(f"is what {SET_ELSEWHERE[name]} sets; give that, and leave this out")
    return name


Topic = Annotated[str, AfterValidator(_topic)]
Property = Annotated[str, AfterValidator(_property)]
Name = Annotated[str, Field(min_length=1, max_length=1_000)]


class Section(BaseModel):
    """A part of the configuration: immutable, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


def _alike(name: str) -> str:
    return name.replace(".", "_")


class KafkaConfig(Section):
    """The broker's addresses, and the names that a worker uses there."""

    bootstrap_servers: Annotated[str, AfterValidator(_addresses)] = "localhost:9092"
    """Comma-separated host:port list."""
    group_id: Annotated[Name, AfterValidator(_group)] = "stream-detector"
    """Consumer group; workers of one group share the partitions."""
    slot: Name | None = None
    """This worker's name, unique among those running at once; default: host name and process id."""
    properties: dict[Property, str | int | bool] = Field(default_factory=dict, repr=False)
    """Any further librdkafka property (security.protocol, sasl.mechanism, ssl.ca.location, …)."""
    sasl_password: SecretStr | None = None
    """`sasl.password`, kept out of logs; best given by the environment."""

    def at(self, addresses: str) -> Self:
        """This section with other brokers. Raises `ConfigError`, which does not show their addresses."""
        try:
            return type(self)(**(dict(self) | {"bootstrap_servers": addresses}))
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"bootstrap servers: {message}") from None


class TopicsConfig(Section):
    """The names of the topics, and what `topics create` gives new ones."""

    telemetry: tuple[Topic, ...] = Field(("telemetry",), min_length=1)
    """Topics to read; one or several."""
    alerts: Topic = "alerts"
    dead_letters: Topic = "dead-letters"
    models: Topic = "models"
    """Compacted: artifacts by version, and the `current` pointer."""
    feedback: Topic = "feedback"
    control: Topic = "control"
    """What workers notice about the stream: drift, for retraining to act on."""
    shadow: Topic = "shadow"
    """How a candidate in shadow compares with the model in force."""
    partitions: int = Field(4, ge=1, le=10_000)
    """Partitions that `topics create` gives a new telemetry topic."""
    replication: int = Field(1, ge=1, le=32)
    """Replicas that `topics create` gives a new topic."""

    @field_validator("telemetry", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [*self.telemetry, self.alerts, self.dead_letters, self.models, self.feedback, self.control, self.shadow]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"topic {name!r} is used twice; the detector would read its own output")
            if clash := [other for other in names if other != name and _alike(other) == _alike(name)]:
                raise ValueError(f"topics {name!r} and {clash[0]!r} differ in '.' and '_' alone, which Kafka refuses")
        return self


class RecordConfig(Section):
    """The format of a record's bytes, and limits on them."""

    format: Literal["json", "avro", "float32", "arrow"] = "json"
    """json; avro through a Schema Registry; float32 vectors in the order of the features; Arrow IPC streams, many records in a message."""
    features_path: str = "features"
    """Dotted path of the object that holds the features; "" = the record itself."""
    id_path: str = "id"
    time_path: str = "time"
    """RFC 3339 text, or a number since 1970."""
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    """Unit of times that are numbers; auto = by their digits: 10 are seconds, 13 ms, 16 us, 19 ns."""
    entity_path: str = "entity"
    least_present: float = Field(0.5, ge=0, le=1)
    """Share of the features that nine in ten of the records fitted on had, below which a record is a dead letter; 0 = one is enough."""
    max_bytes: int = Field(262_144, ge=64, le=104_857_600)
    """Largest record, bytes."""
    max_depth: int = Field(16, ge=1, le=256)
    """Deepest nesting of objects and arrays."""
    max_string: int = Field(256, ge=1, le=1_000_000)
    """Longest category, id or entity, characters."""
    max_rows: int = Field(65_536, ge=1, le=1_000_000)
    """Most records in one Arrow message."""
    max_inflated_bytes: int = Field(67_108_864, ge=1_024, le=8_589_934_592)
    """Most bytes of one Arrow message when it is decompressed, and most values of one of its columns."""
    registry_url: Annotated[str, AfterValidator(_registries)] | None = Field(None, repr=False)
    """The Schema Registry's address, for avro."""
    registry_properties: dict[str, str | int | bool] = Field(default_factory=dict, repr=False)
    """Further settings of the Schema Registry client (ssl.ca.location, basic.auth.user.info, …)."""
    registry_user_info: SecretStr | None = None
    """`basic.auth.user.info` (user:password), kept out of logs; best given by the environment."""

    @model_validator(mode="after")
    def _registry_is_named(self) -> Self:
        if self.format == "avro" and not self.registry_url:
            raise ValueError("format avro reads schemas from a Schema Registry; give registry_url")
        return self


class FeatureConfig(Section):
    """A feature, by name."""

    name: str = Field(min_length=1, max_length=256)
    kind: Kind = Kind.NUMERIC
    context: bool = False
    required: bool = False
    period: float | None = Field(None, gt=0)

    def to_feature(self) -> Feature:
        """The engine's value of this feature; fitting learns its vocabulary later."""
        return Feature(self.name, self.kind, self.context, self.required, self.period)


class ThresholdConfig(Section):
    """The threshold over which a score is an alert."""

    target_alert_rate: float = Field(0.001, gt=0, lt=0.5)
    """The share of normal records that may be flagged: the one knob."""
    window: int = Field(10_000, ge=100, le=1_000_000)
    """Scores per partition that the rolling quantile spans."""
    warmup: int = Field(1_000, ge=1)
    """Scores before the rolling quantile serves; the calibrated quantile serves until then."""
    slack: float = Field(3.0, ge=1.0, le=1_000.0)
    """The threshold stays between the calibrated quantiles of target x slack (floor) and target / slack (ceiling)."""

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup > self.window:
            raise ValueError(f"warmup {self.warmup:,} exceeds window {self.window:,}; give at most the window")
        if self.target_alert_rate * self.slack >= 1:
            raise ValueError(f"target_alert_rate x slack is {self.target_alert_rate * self.slack:g}; must be below 1")
        return self


class DriftConfig(Section):
    """The tests for drift, which workers report on the control topic."""

    enabled: bool = True
    delta: float = Field(1e-4, gt=0, lt=1)
    """ADWIN: bound on the share of false alarms."""
    alpha: float = Field(1e-6, gt=0, lt=1)
    """KSWIN: largest p value that counts as drift."""
    regime_share: float = Field(0.1, gt=0, le=1)
    """Alerts that the same features dominate, as a share of 1,000 offsets, which are a change of regime."""
    cooldown: int = Field(10_000, ge=0)
    """Offsets of a partition over which nothing else of the same kind is reported."""


class WorkerConfig(Section):
    """The sizes and times of a worker's batches and commits."""

    batch_records: int = Field(65_536, ge=1, le=100_000)
    """Most records scored at once; a worker begins with fewer, and takes more while batches are brief."""
    linger_ms: int = Field(5, ge=0, le=10_000)
    """Longest wait for a batch to fill, milliseconds."""
    commit_interval_ms: int = Field(100, ge=0, le=60_000)
    """A transaction is committed at this age, or at once when it holds an alert, milliseconds."""
    transaction_timeout_ms: int = Field(10_000, ge=1_000, le=900_000)
    """The broker aborts a transaction of a silent worker after this, milliseconds."""
    session_timeout_ms: int = Field(45_000, ge=3_000, le=1_800_000)
    """The group gives a silent worker's partitions away after this, milliseconds."""
    max_poll_interval_ms: int = Field(300_000, ge=5_000)
    group_protocol: Literal["classic", "consumer"] = "classic"
    """Kafka's rebalance protocol; `consumer` is KIP-848."""
    start_from: Literal["earliest", "latest"] = "earliest"
    """Where a group without committed offsets begins."""
    on_offsets_lost: Literal["fail", "continue"] = "fail"
    """When retention has overtaken the committed offset: stop with a message, or go on and report the gap."""
    unavailable_timeout_ms: int = Field(300_000, ge=1_000)
    """How long the broker may be away before the worker gives up, milliseconds."""
    threads: int = Field(1, ge=0, le=256)
    """Torch threads, for fitting and explaining; 0 = all cores. Scoring on the CPU has up to three of its own."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")
    """cpu, cuda, or auto: cuda when there is one."""

    @model_validator(mode="after")
    def _timeouts_nest(self) -> Self:
        if self.transaction_timeout_ms >= self.session_timeout_ms:
            raise ValueError(
                f"transaction_timeout_ms {self.transaction_timeout_ms:,} must be below session_timeout_ms "
                f"{self.session_timeout_ms:,}: a hung commit must end before the member is evicted"
            )
        if self.commit_interval_ms * 2 > self.transaction_timeout_ms:
            raise ValueError("commit_interval_ms must be at most half of transaction_timeout_ms")
        return self


class LogConfig(Section):
    """Structured logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """auto = console on a terminal, json otherwise."""


class MetricsConfig(Section):
    """The listener of a worker: /livez, /readyz and /metrics."""

    port: int = Field(0, ge=0, le=65_535)
    """0 = no listener."""
    host: Name = "127.0.0.1"
    turn_timeout_ms: int = Field(8_000, ge=1_000, le=600_000)
    """A loop that has not turned for so long is not alive, milliseconds."""
