"""The stack of docker-compose.yml, for real; the tests run in order, the last one takes it down."""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1_800)]

ROOT = Path(__file__).parents[2]
BASE_IMAGES = ("python:3.13-slim", "apache/kafka:4.3.1")
PROFILE = ("--profile", "demo")
GROUP = "stream-detector"
GATE_REFUSED = 7
CONFIG = "/etc/stream-detector/config.yaml"


class Stack:
    """One compose project under a name and a port of its own, so that it meets no other."""

    def __init__(self):
        self.name = f"stream-detector-test-{uuid.uuid4().hex[:8]}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.bootstrap_servers = f"localhost:{self.port}"

    def compose(self, *arguments, check=True):
        command = ["docker", "compose", "-p", self.name, *arguments]
        environment = os.environ | {"KAFKA_HOST_PORT": str(self.port)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def containers(self):
        """Every container of the project, the finished ones too."""
        return [json.loads(line) for line in self.compose(*PROFILE, "ps", "-a", "--format", "json").splitlines()]

    def service(self, name):
        return [container for container in self.containers() if container["Service"] == name]

    def model(self):
        """The version in force."""
        status = self.compose("exec", "-T", "detector", "stream-detector", "status", "--json", "-c", CONFIG)
        return json.loads(status)["model"]


@pytest.fixture(scope="module")
def stack():
    for image in BASE_IMAGES:
        if docker("image", "inspect", image).returncode and docker("pull", "-q", image).returncode:
            pytest.skip(f"image {image} can be had neither here nor from its registry")
    stack = Stack()
    try:
        stack.compose(*PROFILE, "up", "-d", "--build", "--wait", "--wait-timeout", "600")
        yield stack
    finally:
        stack.compose(*PROFILE, "down", "-v", "--timeout", "10", check=False)


def docker(*arguments):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def eventually(probe, seconds):
    """The first true value of `probe`, or its last value when time is up."""
    deadline = time.monotonic() + seconds
    while not (value := probe()) and time.monotonic() < deadline:
        time.sleep(1)
    return value


def test_everything_is_healthy_and_the_jobs_have_ended_well(stack):
    """`up --wait` ends with the broker and the detector healthy, and the jobs finished with exit code 0."""
    assert [c["Health"] for c in stack.service("broker") + stack.service("detector")] == ["healthy", "healthy"]
    for job in ("topics", "first-fit"):
        assert [(c["State"], c["ExitCode"]) for c in stack.service(job)] == [("exited", 0)], job
    for service in ("retrain", "simulator", "tail"):
        assert [c["State"] for c in stack.service(service)] == ["running"], service


def test_alerts_are_readable_from_the_host(stack):
    """The tail program on the host shows a committed alert, explained, through the localhost listener."""
    command = [sys.executable, "-m", "consumers.tail", "--bootstrap-servers", stack.bootstrap_servers, "--json"]
    command += ["--from-beginning", "--follow", "--limit", "1"]
    tail = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=180)
    alert = json.loads(tail.stdout)
    assert alert["score"] > alert["threshold"]
    assert alert["features"]


def test_the_retraining_service_can_retrain(stack):
    """What a retraining needs is in its container: one ends with the gate's report, whatever the gate says."""
    command = ("stream-detector", "retrain", "-c", CONFIG, "--once", "--dry-run")
    done = docker("exec", stack.service("retrain")[0]["ID"], *command)
    assert done.returncode in {0, GATE_REFUSED}, done.stderr
    assert "holdout-alert-rate" in done.stdout + done.stderr


def test_three_detectors_share_the_partitions(stack):
    """`up --scale detector=3` ends with all four partitions spread over three members of the group."""
    stack.compose("up", "-d", "--scale", "detector=3")
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})

    def spread():
        group = admin.describe_consumer_groups([GROUP])[GROUP].result(timeout=10)
        sizes = sorted(len(member.assignment.topic_partitions) for member in group.members)
        return group.state == ConsumerGroupState.STABLE and sizes == [1, 1, 2]

    assert eventually(spread, 120)


def test_a_second_up_changes_nothing(stack):
    """`up` on a running stack keeps its broker and its model, and ends well."""
    before = stack.service("broker")[0]["ID"], stack.model()
    stack.compose(*PROFILE, "up", "-d", "--wait", "--wait-timeout", "300", "--scale", "detector=3")
    assert (stack.service("broker")[0]["ID"], stack.model()) == before


def test_no_container_logs_a_traceback(stack):
    """What the containers have said holds no Python traceback."""
    logs = stack.compose(*PROFILE, "logs", "--no-color")
    assert "detector-1" in logs
    assert "Traceback" not in logs


def test_the_image_runs_as_nobody_in_particular(stack):
    """The detector's process is not root, cannot write its file system, and finds no compiler."""
    script = "import os, shutil; print(os.getuid(), os.access('/opt/venv', os.W_OK), shutil.which('cc'))"
    assert stack.compose("exec", "-T", "detector", "python", "-c", script).split() == ["10001", "False", "None"]


def test_down_leaves_nothing(stack):
    """After `down -v` no container, network or volume of the project is left, nor one that only its image declares."""
    label = f"label=com.docker.compose.project={stack.name}"
    mounts = "{{range .Mounts}}{{if .Name}}{{println .Name}}{{end}}{{end}}"
    containers = docker("ps", "-aq", "--filter", label).stdout.split()
    used = set(docker("inspect", "-f", mounts, *containers).stdout.split())
    assert f"{stack.name}_broker-data" in used
    stack.compose("down", "-v")
    assert not docker("ps", "-aq", "--filter", label).stdout
    assert not docker("network", "ls", "-q", "--filter", label).stdout
    assert not used & set(docker("volume", "ls", "-q").stdout.split())
