"""A worker in trouble says no secret: not in its log, not over HTTP, and no command beside it does."""

import os
import re
import socket
import subprocess
import sys
from contextlib import suppress
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from processes import RUN, Process
from workload import IMPATIENT, THRESHOLD, fresh_config, published, small_model, until

from stream_detector.kafka.embedded import EmbeddedBroker

CANARY = "canary7Q"
PASSWORD = f"{CANARY}-right"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
JAAS = f'{LOGIN} required username="admin" password="hush" user_admin="hush" user_worker="{PASSWORD}";'
SECURED = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": JAAS,
}
CLIENT = {
    "security.protocol": "sasl_plaintext",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "worker",
    "ssl.key.password": CANARY,
    "ssl.keystore.password": CANARY,
    "sasl.oauthbearer.client.secret": CANARY,
}
REGISTRY = {
    "registry_url": f"http://user:{CANARY}@127.0.0.1:1",
    "registry_user_info": f"user:{CANARY}",
    "registry_properties": {"ssl.key.password": CANARY, "bearer.auth.token": CANARY},
}
SECRET = re.compile("canary", re.IGNORECASE)


@pytest.fixture(scope="module")
def secured():
    """A broker that wants a password."""
    with EmbeddedBroker(properties=SECURED) as broker:
        yield broker


@pytest.fixture
def config(secured):
    """Secrets wherever the configuration has room for them, with a listener, and little patience."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = fresh_config(
        secured,
        kafka={"properties": CLIENT, "sasl_password": PASSWORD},
        record=REGISTRY,
        threshold=THRESHOLD,
        metrics={"port": port},
        log={"level": "debug"},
        worker=IMPATIENT | {"unavailable_timeout_ms": 60_000},
    )
    published(made, small_model())
    return made


class Overheard:
    """A worker as a process with a password from the environment; all that it and `status` said, and told over HTTP."""

    def __init__(self, config, folder, monkeypatch, password):
        monkeypatch.setenv("STREAM_DETECTOR_KAFKA__SASL_PASSWORD", password)
        monkeypatch.setenv("STREAM_DETECTOR_RECORD__REGISTRY_USER_INFO", f"user:{CANARY}")
        self._port, self._said = config.metrics.port, []
        secrets = {"kafka": {"properties": CLIENT}, "record": REGISTRY}
        self.process = Process(config, "worker", folder, secrets=secrets)

    def ask(self, path):
        """What the listener answers, with its code; nothing while it does not listen."""
        with suppress(OSError):
            try:
                answer = urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=10)
            except HTTPError as error:
                answer = error
            with answer:
                self._said.append(answer.read().decode())
                return answer.status, self._said[-1]
        return 0, ""

    def status(self):
        """The exit code of `status` beside the worker."""
        for arguments in ([], ["--json"]):
            command = [sys.executable, "-c", RUN, "status", *arguments, "-c", str(self.process.path)]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=False)
            self._said += ended.stdout, ended.stderr
        return ended.returncode

    def look_around(self):
        for path in ("/livez", "/readyz", "/metrics", f"/{CANARY[::-1]}"):
            self.ask(path)

    def everything(self):
        return "\n".join([*self._said, self.process.log])


def test_a_wrong_password_is_not_said(config, tmp_path, monkeypatch):
    """The broker refuses the credentials: that is told, and neither they nor any other secret."""
    worker = Overheard(config, tmp_path, monkeypatch, f"{CANARY}-wrong")
    with worker.process:
        until(lambda: "uthentication" in worker.process.log, "the refusal is told")
        worker.look_around()
        assert worker.status() == 5
        until(lambda: worker.process.code is not None, "it gives up", 90)
    assert worker.process.code == 5
    assert not SECRET.search(worker.everything()), worker.everything()
