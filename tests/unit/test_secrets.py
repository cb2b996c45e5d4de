"""No secret is said, wherever it stands and however its configuration is broken."""

import random
import sys

import pytest
from pydantic import BaseModel, SecretStr

from consumers.tail import main as tail
from stream_detector.cli import main
from stream_detector.config import Config, KafkaConfig, load_config
from stream_detector.errors import ConfigError
from stream_detector.kafka import clients

CANARY = "canary7Q"
SOUND = """\
kafka:
  bootstrap_servers: localhost:9092
  sasl_password: C
  properties:
    security.protocol: plaintext
    sasl.username: C
    sasl.password: C
    ssl.key.password: C
    ssl.keystore.password: C
    sasl.oauthbearer.client.secret: C
record:
  format: json
  registry_url: http://user:C@localhost:8081
  registry_user_info: user:C
  registry_properties:
    ssl.key.password: C
    basic.auth.user.info: user:C
    bearer.auth.token: C
metrics:
  port: 0
""".replace("C\n", CANARY + "\n").replace("C@", CANARY + "@")
LINES = SOUND.splitlines()
SECRET_LINES = [number for number, line in enumerate(LINES) if CANARY in line]
BREAKS = {
    "no colon": lambda line: line.replace(": ", " ", 1),
    "no space": lambda line: line.replace(": ", ":", 1),
    "no key": lambda line: " " * 4 + line.split(": ", 1)[1],
    "a quote opened": lambda line: line.replace(": ", ": '", 1),
    "a double quote opened": lambda line: line.replace(": ", ': "', 1),
    "text after a quote": lambda line: line.replace(": ", ": 'x' ", 1),
    "an unknown escape": lambda line: line.replace(": ", ': "\\', 1) + '"',
    "another colon": lambda line: line + ": x",
    "a colon before": lambda line: line.replace(": ", ": x: ", 1),
    "a bracket opened": lambda line: line.replace(": ", ": [", 1),
    "a brace opened": lambda line: line.replace(": ", ": {", 1),
    "a bracket closed": lambda line: line + "]",
    "an alias": lambda line: line.replace(": ", ": *", 1),
    "an anchor": lambda line: line.replace(": ", ": &", 1),
    "a tag": lambda line: line.replace(": ", ": !", 1),
    "a handle of a tag": lambda line: line.replace(": ", ": !", 1) + "!x",
    "a tag of Python": lambda line: line.replace(": ", ": !!python/name:", 1),
    "a directive": lambda line: "%" + line.strip(),
    "reserved": lambda line: line.replace(": ", ": @", 1),
    "a block": lambda line: line.replace(": ", ": |", 1),
    "a placeholder open": lambda line: line.replace(": ", ": ${", 1),
    "a placeholder odd": lambda line: line.replace(": ", ": ${-", 1) + "}",
    "a list": lambda line: line.replace(": ", ": [", 1) + "]",
    "a mapping": lambda line: line.replace(": ", ": {a: ", 1) + "}",
    "a mapping without a value": lambda line: line.replace(": ", ": {", 1) + "}",
    "a mapping without a space": lambda line: line.replace(": ", ": {a:", 1) + "}",
    "a tab": lambda line: "\t" + line,
    "deeper": lambda line: " " * 7 + line,
    "twice": lambda line: line + "\n" + line,
    "misspelt": lambda line: line.replace("s", "z", 1),
    "a date": lambda line: line.replace(": ", ": 2026-77-77 ", 1),
    "a byte that is no UTF-8": lambda line: line + "\udcff",
    "a control character": lambda line: line + "\x07",
    "an unknown key beside it": lambda line: line + "\n" + line.replace(line.strip().split(":")[0], "zzz"),
    "a wrong choice beside it": lambda line: "log: {level: loud}\n" + line,
    "before the at of a broker": lambda line: line.replace(": ", ": x", 1) + "\nkafka2: 1",
    "not there": lambda line: "",
}


@pytest.fixture
def outputs(tmp_path, monkeypatch, capfd, commands_built_once):
    """Runs a command on a configuration, given as text; returns what it printed, and its exit code."""
    path = tmp_path / "c.yaml"

    def run(text, *args):
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        monkeypatch.setattr(sys, "argv", ["stream-detector", *args, "-c", str(path)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return out + err, ended.value.code or 0

    return run


def secret_fields(model, prefix=""):
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        if SecretStr in kinds:
            yield prefix + name
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from secret_fields(kind, f"{prefix}{name}.")


def test_every_secret_is_planted():
    """Whatever the schema keeps secret stands in the file that the other tests break."""
    assert {name.split(".")[1] for name in secret_fields(Config)} <= {line.split(":")[0].strip() for line in LINES}
    assert len(SECRET_LINES) == 11


def test_a_sound_configuration_says_no_secret(outputs, tmp_path):
    """Neither its text nor what `validate` makes of it holds one."""
    said, code = outputs(SOUND, "validate")
    assert (code, CANARY in said) == (0, False)
    config = load_config(tmp_path / "c.yaml")
    assert CANARY not in repr(config) + str(config)


@pytest.mark.thorough
@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_line_is_told_without_its_text(outputs, name):
    """However a line with a secret is broken, no output holds it, and none is a traceback."""
    for number in SECRET_LINES:
        lines = [BREAKS[name](line) if at == number else line for at, line in enumerate(LINES)]
        said, code = outputs("\n".join(lines), "validate")
        assert CANARY not in said, (name, LINES[number], said)
        assert "Traceback" not in said
        assert code in {0, 2}


@pytest.mark.thorough
def test_no_edit_of_the_file_brings_a_secret_out(outputs):
    """Characters that mean something to YAML, put in anywhere or left out: whatever comes of it says no secret."""
    dice = random.Random(7)
    for _ in range(400):
        text = SOUND
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(text))
            if dice.random() < 0.5:
                text = text[:at] + dice.choice("'\"[]{}:,#&*!|>%@`\t\n -?\\$") + text[at:]
            elif text[at] not in CANARY:
                text = text[:at] + text[at + 1 :]
        said, _ = outputs(text, "validate")
        assert CANARY not in said, (text, said)


@pytest.mark.parametrize(
    "section", ["kafka", "record", "topics", "features", "kafka.properties", "record.registry_properties"]
)
@pytest.mark.parametrize("value", [CANARY, f"[{CANARY}]", f"{{{CANARY}}}", f"{{{CANARY}: x y}}", f"{{a: {CANARY}}}"])
def test_a_secret_in_a_sections_place_is_not_said(outputs, section, value):
    """A value where keys are expected, or a key without a value, is often a line gone wrong."""
    first, _, inner = section.partition(".")
    said, code = outputs(f"{first}: {{{inner}: {value}}}" if inner else f"{first}: {value}", "validate")
    assert code == 2
    if "x y" in value:  # a word with a value is taken as a misspelt key
        said = said.replace(f"{section}.{CANARY}: ", "")
    assert CANARY not in said


@pytest.mark.parametrize(
    "line",
    [
        "sasl_password: [${SECRET}]",
        "group_id: [${SECRET}]",
        "properties: {socket.timeout.ms: '${SECRET}'}",
        "properties: {security.protocol: '${SECRET}'}",
        "slot: {a: '${SECRET}'}",
        "bootstrap_servers: 'user:${SECRET}@host:1'",
        "bootstrap_servers: '${SECRET}:${SECRET}'",
        "sasl_password: '${SECRET}${UNSET}'",
    ],
)
def test_what_a_variable_holds_is_not_said(outputs, monkeypatch, line):
    """A placeholder's value may be a secret wherever it stands: the variable's name is said in its place."""
    monkeypatch.setenv("SECRET", CANARY)
    said, code = outputs(
        f"kafka:\n  {line.replace('[${SECRET}]', '[' + chr(39) + '${SECRET}' + chr(39) + ']')}", "validate"
    )
    assert (code, CANARY in said) == (2, False)
    for other in ("topics:\n  alerts: a ${SECRET}", "log:\n  level: ${SECRET}", "metrics:\n  port: ${SECRET}"):
        said, code = outputs(other, "validate")
        assert (code, CANARY in said) == (2, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA__BOOTSTRAP_SERVERS", f"user:{CANARY}@host:9092"),
        ("KAFKA__BOOTSTRAP_SERVERS", CANARY + " x"),
        ("KAFKA__PROPERTIES", f'{{"sasl.password": "{CANARY}"'),
        ("KAFKA__PROPERTIES", f'{{"sasl.pasword": "{CANARY}"}}'),
        ("KAFKA__PROPERTIES", f'{{"ssl.key.password": ["{CANARY}"]}}'),
        ("KAFKA", f'{{"sasl_password": ["{CANARY}"]}}'),
        ("KAFKA", CANARY),
        ("KAFKA__SASL_PASWORD", CANARY),
        ("RECORD__REGISTRY_URL", f"ftp://user:{CANARY}@host"),
        ("RECORD__REGISTRY_URL", f"http://user:{CANARY}@host:port"),
        ("RECORD__REGISTRY_PROPERTIES", f'{{"a": "{CANARY}"}}'),
        ("RECORD__REGISTRY_USER_INFO__A", CANARY),
    ],
)
def test_a_wrong_variable_is_named_without_its_value(outputs, monkeypatch, name, value):
    """The environment's own secrets are as safe as the file's."""
    monkeypatch.setenv(f"STREAM_DETECTOR_{name}", value)
    said, code = outputs("seed: 0", "validate")
    assert (code, CANARY in said) == (2, False)
    assert "environment" in said


def test_an_address_on_the_command_line_is_not_said(capfd):
    """What is given to a program as an address is held to the same."""
    assert tail(["--bootstrap-servers", f"user:{CANARY}@127.0.0.1:1", "--from-beginning"]) == 2
    assert CANARY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("args", [["status"], ["models", "ls"], ["status", "--json"], ["feedback", "--summary"]])
@pytest.mark.parametrize(
    "properties", ["sasl.mechanism: PLAIN", "ssl.ca.location: /no/such/file", "sasl.mechanism: OAUTHBEARER"]
)
def test_clients_that_cannot_be_made_or_reach_nobody_say_no_secret(outputs, monkeypatch, args, properties):
    """A broker that is not there, or files that are not: one line, no secret, no traceback."""
    monkeypatch.setattr("stream_detector.kafka.topics.TIMEOUT", 0.3)
    text = SOUND.replace("localhost:9092", "127.0.0.1:1").replace(
        "security.protocol: plaintext", f"security.protocol: sasl_ssl\n    {properties}"
    )
    said, code = outputs(text, *args)
    assert code in {2, 5}
    assert CANARY not in said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.parametrize("make", [clients.admin, clients.plain_producer, clients.reader, clients.offsets_reader])
@pytest.mark.parametrize("name", ["debug", "security.protocol", "builtin.features", "broker.address.family"])
def test_a_value_that_the_client_library_refuses_is_not_said(make, name):
    """librdkafka's own text quotes the value of a property: it names the property, and the value is left out."""
    with pytest.raises(ConfigError) as refused:
        make(KafkaConfig(properties={name: CANARY}))
    assert CANARY not in str(refused.value)
    assert f'"(its value)" for configuration property "{name}"' in str(refused.value)


def test_settings_that_are_given_in_python_are_not_said():
    """An error of the schema itself, as a program that builds the configuration meets it, holds no value."""
    with pytest.raises(ValueError, match="sasl_password") as caught:
        Config(kafka={"sasl_password": [CANARY], "properties": {"a": [CANARY]}})
    assert CANARY not in str(caught.value)
    with pytest.raises(ValueError, match="sasl_password") as caught:
        KafkaConfig(sasl_password=[CANARY])
    assert CANARY not in str(caught.value)
    with pytest.raises(ConfigError) as refused:
        Config().kafka.at(f"u:{CANARY}@h")
    assert CANARY not in str(refused.value)
