"""The configuration is validated whole; what is wrong is said in one line with a remedy."""

from pathlib import Path

import pytest
import yaml

from stream_detector.config import Config, load_config
from stream_detector.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return path

    return write


def test_an_empty_file_is_the_defaults(write):
    """Every key has a default."""
    assert load_config(write("")) == load_config(None) == Config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("treshold: {}", "treshold: unknown key; did you mean 'threshold'?"),
        ("threshold: {target_alert_rte: 0.1}", "threshold.target_alert_rte: unknown key; did you mean 'target_alert_rate'?"),
        ("threshold: {target_alert_rate: 2}", r"threshold.target_alert_rate: .*less than 0.5 \(got 2\)"),
        ("worker: {transaction_timeout_ms: 60000}", "must be below session_timeout_ms"),
        ("topics: {telemetry: alerts}", "topic 'alerts' is used twice"),
        ("topics: {alerts: 'a b'}", "topics.alerts: "),
        ("features: [{nme: a}]", "did you mean 'name'"),
        ("kafka: {properties: {enable.auto.commit: true}}", "exactly-once depends on it"),
        ("a: [1", "not valid YAML"),
        ("a: &x 1\nb: *x", "aliases are not allowed"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("- 1", "holds a list"),
        ("1: 2", "must be text"),
    ],
)  # fmt: skip
def test_faults_name_key_value_and_remedy(write, text, says):
    """Unknown keys get a suggestion, wrong values are shown, unsafe YAML is refused."""
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(write(text))
    assert "c.yaml" in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    """A path that is not there is said with its reason."""
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "absent.yaml")


def test_the_environment_wins_over_the_file(write, monkeypatch):
    """An environment variable overrides one key and leaves its neighbours."""
    monkeypatch.setenv("STREAM_DETECTOR_KAFKA__BOOTSTRAP_SERVERS", "broker:1")
    config = load_config(write("kafka: {bootstrap_servers: 'x:1', group_id: g}"))
    assert (config.kafka.bootstrap_servers, config.kafka.group_id) == ("broker:1", "g")


def test_secrets_are_never_shown(write, monkeypatch):
    """Neither the configuration's text nor an error about it holds a secret."""
    monkeypatch.setenv("STREAM_DETECTOR_KAFKA__SASL_PASSWORD", "canary-1")
    config = load_config(write("kafka: {properties: {sasl.oauthbearer.client.secret: canary-2}}"))
    assert "canary" not in repr(config) + str(config)
    with pytest.raises(ConfigError) as caught:
        load_config(write("kafka: {sasl_password: [canary-3], properties: {ssl.key.password: [canary-4]}}"))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("topic", ["telemetry", ["a", "b"]])
def test_telemetry_is_one_topic_or_several(write, topic):
    """A single topic may be written as text."""
    config = load_config(write(f"topics: {{telemetry: {topic}}}"))
    assert config.topics.telemetry == ((topic,) if isinstance(topic, str) else tuple(topic))


EXAMPLE = Path(__file__).parents[2] / "configs" / "detector.yaml"


def test_the_documented_file_is_the_defaults():
    """configs/detector.yaml shows what holds when nothing is configured."""
    assert load_config(EXAMPLE) == Config()


def test_every_key_is_documented():
    """No section of the configuration has a key that the documented file leaves out, training details aside."""
    shown = yaml.safe_load(EXAMPLE.read_text())
    assert set(shown) == set(Config.model_fields)
    for name in set(shown) - {"features", "exclude", "rules", "seed", "model", "inversion"}:
        assert set(shown[name]) == set(Config.model_fields[name].annotation.model_fields), name


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("kafka:\n  bootstrap_servers: ''", 2, "kafka.bootstrap_servers: is empty"),
        ("kafka:\n  bootstrap_servers: ' , '", 2, "kafka.bootstrap_servers: is empty"),
        ("kafka:\n  bootstrap_servers: 'a:1,b:99999'", 2, "address 2 is not of the form 'host:port'"),
        ("kafka:\n  bootstrap_servers: '${BROKER'", 2, "a placeholder is written"),
        ("kafka:\n\n  bootstrap_servers: 'http://a b:1'", 3, "address 1 is not of the form"),
        ("kafka:\n  bootstrap_servers: 'user:canary@host:9092'", 2, "no user before an '@'"),
        ("kafka:\n  group_id: ''", 2, "kafka.group_id: is empty"),
        ('kafka:\n  group_id: "a\\x1b[1m"', 2, "kafka.group_id: may hold printable ASCII alone"),
        ("kafka:\n  group_id: größe", 2, "kafka.group_id: may hold printable ASCII alone"),
        ("kafka:\n  slot: ''", 2, "kafka.slot: is empty"),
        ("topics:\n  alerts: ''", 2, "topics.alerts: '' is no name that Kafka takes"),
        ("topics:\n  alerts: .", 2, "topics.alerts: '.' is no name that Kafka takes"),
        ("topics:\n  models: '..'", 2, "topics.models: '..' is no name that Kafka takes"),
        ("topics:\n  telemetry:\n  - good\n  - ..", 4, "topics.telemetry.1: '..' is no name"),
        ("topics:\n  telemetry: []", 2, "topics.telemetry: is empty"),
        ("topics:\n  telemetry: ''", 2, "'' is no name"),
        ("topics:\n  alerts: '${UNSET_HERE}'", 2, "the environment variable UNSET_HERE is not set"),
        ("topics: {alerts: a.b, control: a_b}", 1, "differ in '.' and '_' alone"),
        ("record:\n  format: avro\n  registry_url: ''", 3, "is no address of a Schema Registry"),
        ("record:\n  registry_url: ftp://host", 2, "is no address of a Schema Registry"),
        ("record:\n  registry_url: http://", 2, "is no address of a Schema Registry"),
        ("record:\n  registry_url: http://host:port", 2, "is no address of a Schema Registry"),
        ("metrics:\n  host: ''", 2, "metrics.host: is empty"),
        ("worker:\n  device: cdua", 2, r"worker.device: .* \(got 'cdua'\)"),
        ("log:\n\n\n  level: loud", 4, r"log.level: .*'warning' or 'error' \(got 'loud'\)"),
        ("seed: 1\nlog: {level: info}\nseed: 2", 3, "the same key stands in line 1 already"),
        ("seed: 1\nfeatures:\n- name: a\n- name: a", 2, "features: 'a' is named twice"),
        ("retrain:\n  exclude:\n  - begin: 2026-01-01\n    ende: 2026-01-02", 4, "did you mean 'end'"),
        ("kafka:", 1, "expected keys and values"),
        ("kafka: {properties: {1: 2}}", 1, "every key must be text"),
        ("seed: 2026-13-77", 1, "put text in quotes"),
        ("kafka:\n  properties:\n    session.timeout.ms: 9000", 3, "worker.session_timeout_ms sets"),
        ("kafka:\n  properties:\n    metadata.broker.list: x", 3, "kafka.bootstrap_servers sets"),
        ("\nkafka: [\n\n", 4, "not valid YAML"),
        ("seed: " + "[\n" * 3_000 + "]\n" * 3_000, None, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told_by_file_and_line(write, text, line, says):
    """Empty names and addresses, names Kafka refuses, placeholders without a value: each has its line."""
    with pytest.raises(ConfigError, match=says) as caught:
        load_config(write(text))
    assert all("c.yaml" in fault for fault in str(caught.value).split("\n"))
    assert "canary" not in str(caught.value)
    if line:
        assert f"c.yaml:{line}: " in str(caught.value)


@pytest.mark.parametrize(
    "servers", ["h", "h:1", "h-1.x:1,other:2", " a:1 , b:2", "[::1]:9092", "SASL_SSL://h:9093", "127.0.0.1:65535"]
)
def test_addresses_in_every_form_that_the_client_takes(write, servers):
    """A host, a port, IPv6 in brackets, a protocol before it."""
    assert load_config(write(f"kafka: {{bootstrap_servers: '{servers}'}}")).kafka.bootstrap_servers == servers


def test_placeholders_are_filled_in(write, monkeypatch):
    """`${NAME}` is the variable's text anywhere in a value; `$${` is these characters; the rest of a $ is left alone."""
    monkeypatch.setenv("PLACE", "east")
    monkeypatch.setenv("PORT", "9100")
    config = load_config(
        write(
            "kafka: {bootstrap_servers: 'a.${PLACE}:${PORT}', sasl_password: 'x$${y}$z$$', group_id: '${PLACE}'}\n"
            "topics: {telemetry: ['t-${PLACE}']}\nmetrics:\n  port: ${PORT}"
        )
    )
    assert config.kafka.bootstrap_servers == "a.east:9100"
    assert config.kafka.sasl_password.get_secret_value() == "x${y}$z$$"
    assert (config.kafka.group_id, config.topics.telemetry, config.metrics.port) == ("east", ("t-east",), 9100)


def test_a_variable_that_is_wrong_is_named_and_not_a_line(write, monkeypatch):
    """What the environment overrides is told by the variable; one that names no section is an error, too."""
    monkeypatch.setenv("STREAM_DETECTOR_METRICS__PORT", "high")
    monkeypatch.setenv("STREAM_DETECTOR_KAFAK__SLOT", "a")
    monkeypatch.setenv("STREAM_DETECTOR_SERVICE_HOST", "10.0.0.1")  # as Kubernetes sets it for a service of this name
    with pytest.raises(ConfigError) as caught:
        load_config(write("metrics: {port: 1}"))
    faults = str(caught.value).split("\n")
    assert faults[0].startswith("environment: STREAM_DETECTOR_KAFAK__SLOT: unknown section; did you mean 'kafka'?")
    assert faults[1].startswith("environment: STREAM_DETECTOR_METRICS__PORT: metrics.port: ")
    assert len(faults) == 2
