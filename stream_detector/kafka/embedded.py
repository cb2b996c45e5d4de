"""Runs a real Apache Kafka broker on this machine, for tests, demos and trying things out.

KRaft combined mode on loopback ports, its data in a temporary directory that `stop` removes. Not
for production: one replica, and no security.
"""

# ruff: noqa: S603 - the commands are built here, of our own paths and ports

import base64
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from stream_detector.errors import EmbeddedBrokerError
from stream_detector.kafka.jvm import java

__all__ = ["EmbeddedBroker"]

HOST = "127.0.0.1"
START_TIMEOUT = 120.0  # seconds; an idle machine needs four, an overloaded one thirty
STOP_GRACE = 10.0  # seconds between SIGTERM and SIGKILL
SERVING = "Kafka Server started"  # the last thing it logs while starting
START_ATTEMPTS = 3  # a port found free may be taken before the broker binds it

# Runs as the child: asks the kernel (Linux) for SIGKILL when its parent dies, then becomes the JVM.
LAUNCHER = """
import ctypes, os, signal, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl:
    prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died")
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedBroker:
    """Runs a Kafka broker as a child process; a context manager.

    `port` 0 takes a free one. `properties` are added to server.properties and win; brokers with the same
    `cluster_id` can be made a cluster by them. The broker dies with the thread that started it (Linux),
    so that no crash leaves an orphan.
    """

    def __init__(
        self, port: int = 0, properties: Mapping[str, str | int | bool] | None = None, cluster_id: str = ""
    ) -> None:
        self._wanted_port = port
        self._extra = dict(properties or {})
        self._cluster_id = cluster_id or _cluster_id()
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._port = 0

    @property
    def bootstrap_servers(self) -> str:
        """Gives the host:port to connect to; a restart keeps it."""
        return f"{HOST}:{self._port}"

    @property
    def log_file(self) -> Path:
        """Names the file that the broker logs to; `stop` removes it."""
        return self._home / "broker.log"

    @property
    def pid(self) -> int:
        """Gives the JVM's process id."""
        if self._process is None:
            raise EmbeddedBrokerError("the broker is not running; call start() first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tells whether the JVM is alive."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Formats the storage and starts the broker; returns once it serves clients.

        Raises `EmbeddedBrokerError` when Java or the jars cannot be had, or the broker does not come up.
        """
        if self.running:
            return
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._prepare()
                self._launch()
            except BaseException as error:
                log = self._log()
                self.stop()
                retry = isinstance(error, EmbeddedBrokerError) and "Address already in use" in log  # Java's own words
                if not retry or self._wanted_port or attempt == START_ATTEMPTS:
                    raise
            else:
                return

    def stop(self) -> None:
        """Stops the broker, by force if it does not go, and removes its data."""
        self._terminate()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def kill(self) -> None:
        """Ends the broker at once (SIGKILL) and keeps its data and port for `restart`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Starts the broker again on its data and port, after a clean stop if it still runs."""
        self._terminate()
        self._launch()

    def _prepare(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="stream-detector-broker-"))
        self._port = _free_port(self._wanted_port)
        lines = (_properties(self._port, _free_port(0), self._home / "data") | self._extra).items()
        text = "".join(f"{key}={str(value).lower() if isinstance(value, bool) else value}\n" for key, value in lines)
        (self._home / "server.properties").write_text(text, encoding="utf-8")
        self._format()

    def _format(self) -> None:
        arguments = ["format", "--cluster-id", self._cluster_id, "--config", str(self._home / "server.properties")]
        command = [*java("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", *arguments]
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT, check=True)
        except subprocess.SubprocessError as error:
            said = _tail(getattr(error, "stderr", None) or str(error))
            raise EmbeddedBrokerError(f"broker storage in {self._home} cannot be formatted: {said}") from None

    def _launch(self) -> None:
        options = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC")
        broker = [*java(*options), "kafka.Kafka", str(self._home / "server.properties")]
        command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), *broker]
        with self.log_file.open("ab") as log:
            since = log.tell()
            # Its own session: Ctrl-C on the terminal is for us, who then stop the broker in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_serving(since)

    def _wait_until_serving(self, since: int) -> None:
        """Waits until the broker's log says that it serves; its port may answer for another process that took it."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if SERVING in self._log(since):
                return
            if not self.running:
                raise EmbeddedBrokerError(f"the broker ended while starting; its log ends: {_tail(self._log(since))}")
            time.sleep(0.1)
        raise EmbeddedBrokerError(
            f"the broker does not serve {self.bootstrap_servers} after {START_TIMEOUT:.0f} s; "
            f"its log ends: {_tail(self._log(since))}"
        )

    def _terminate(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    @property
    def _home(self) -> Path:
        if self._directory is None:
            raise EmbeddedBrokerError("the broker has no data directory; call start() first")
        return self._directory

    def _log(self, since: int = 0) -> str:
        if self._directory is None or not self.log_file.exists():
            return ""
        return self.log_file.read_bytes()[since:].decode(errors="replace")


def _properties(port: int, controller: int, data: Path) -> dict[str, str | int | bool]:
    """Gives the properties of one node with all roles: single replicas, short delays, small internal topics."""
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "log.dirs": str(data),
        "auto.create.topics.enable": False,
        "offsets.topic.num.partitions": 5,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 5,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1_000,
        "group.consumer.min.session.timeout.ms": 1_000,
        "group.consumer.min.heartbeat.interval.ms": 500,
        "group.consumer.session.timeout.ms": 6_000,
        "group.consumer.heartbeat.interval.ms": 500,
        "group.coordinator.rebalance.protocols": "classic,consumer",
        "broker.session.timeout.ms": 4_000,  # a broker back from a kill is let in when its old self has expired
        "broker.heartbeat.interval.ms": 500,
        "controlled.shutdown.enable": False,  # there is no other broker to hand over to
        "log.cleaner.backoff.ms": 1_000,
        "log.cleaner.dedupe.buffer.size": 16 * 2**20,
        "message.max.bytes": 16 * 2**20,
    }


def _free_port(wanted: int) -> int:
    """Finds a port that can be bound now: `wanted`, or any when that is 0."""
    with socket.socket() as probe:
        if wanted:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the broker does
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise EmbeddedBrokerError(
                f"port {wanted} on {HOST}: {error.strerror}; give another, or 0 for any"
            ) from None
        port: int = probe.getsockname()[1]
        return port


def _cluster_id() -> str:
    """Makes a random 22-character base64 id, as Kafka wants it; one that begins with '-' would pass for an option."""
    return base64.urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


def _tail(text: str, lines: int = 6) -> str:
    """Gives the last lines without stack frames, which hide what went wrong."""
    said = [line.strip()[:300] for line in text.splitlines() if not line.startswith(("\tat ", "\t... "))]
    return " | ".join(said[-lines:]) or "(empty)"
