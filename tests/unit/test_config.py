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
    for name in set(shown) - {"features", "seed", "model", "inversion"}:
        assert set(shown[name]) == set(Config.model_fields[name].annotation.model_fields), name
