"""What a worker tells of itself, and how it is asked."""

import socket
import time
from contextlib import closing
from math import isnan
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_detector.config import MetricsConfig
from stream_detector.health import Health
from stream_detector.worker.listener import MOST, listen
from stream_detector.worker.metrics import WorkerMetrics
from stream_detector.worker.summary import RunSummary


class Listener:
    """A listener with the health that it tells of, and what it answers."""

    def __init__(self, health):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.health, self.metrics = health, WorkerMetrics(health)
        listen(MetricsConfig(port=self.port), health, self.metrics)

    def get(self, path, method="GET"):
        try:
            with urlopen(Request(f"http://127.0.0.1:{self.port}{path}", method=method), timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def samples(self):
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {sample.name: sample.value for family in families for sample in family.samples}


@pytest.fixture
def listener():
    return Listener(Health())


def test_before_anything_is_there_it_is_alive_and_not_ready(listener):
    """From the start on both are answered, with the reason in words."""
    assert listener.get("/livez")[0] == 200
    assert listener.get("/readyz") == (503, "not ready: starting\n")
    listener.health.began()
    assert listener.get("/readyz") == (200, "ready\n")


def test_every_trouble_is_told_until_it_is_over(listener):
    """Several reasons are all there; what began first is when the trouble began."""
    health = listener.health
    health.began()
    assert isnan(listener.samples()["stream_detector_in_trouble_since_timestamp_seconds"])
    before = time.time()
    health.trouble("broker", "no answer")
    health.trouble("topics", "one is gone")
    health.trouble("broker", "still no answer")
    assert listener.get("/readyz") == (503, "not ready: still no answer\nnot ready: one is gone\n")
    assert before <= listener.samples()["stream_detector_in_trouble_since_timestamp_seconds"] <= time.time()
    assert listener.samples()["stream_detector_ready"] == 0
    health.trouble("broker", None)
    health.trouble("topics", None)
    health.remark("model", "another one is refused")
    assert listener.get("/readyz") == (200, "ready\nnote: another one is refused\n")
    assert listener.samples()["stream_detector_ready"] == 1


def test_a_loop_that_does_not_turn_is_not_alive():
    """Neither alive nor ready once the limit is over, and both again with the next turn."""
    listener = Listener(Health(turn_limit=0.2))
    listener.health.began()
    assert listener.get("/livez")[0] == 200
    time.sleep(0.3)
    status, text = listener.get("/livez")
    assert (status, text[:9]) == (503, "not alive")
    assert "the loop has not turned" in listener.get("/readyz")[1]
    assert listener.samples()["stream_detector_loop_turn_age_seconds"] > 0.2
    listener.health.beat()
    assert (listener.get("/livez")[0], listener.get("/readyz")[0]) == (200, 200)


def test_a_step_of_the_start_may_take_longer_than_a_turn():
    """Before the loop turns at all, its limit does not count: scoring may have to be compiled."""
    health = Health(turn_limit=0.01)
    time.sleep(0.05)
    assert health.is_alive


def test_records_that_wait_for_a_commit_are_a_trouble_after_a_while(monkeypatch):
    """Not at once, and not once they are committed; the time of the commit is a metric."""
    monkeypatch.setattr("stream_detector.health.BEHIND", 0.1)
    health = Health()
    health.began()
    health.behind(waiting=True)
    assert health.troubles() == []
    time.sleep(0.2)
    health.behind(waiting=True)
    assert "nothing was committed" in health.troubles()[0]
    assert isnan(health.last_commit)
    health.committed()
    assert health.troubles() == []
    assert health.last_commit == pytest.approx(time.time(), abs=5)


def test_what_is_not_known_is_not_zero(listener):
    """Lag, last commit and the broker's state are NaN until something is known."""
    samples = listener.samples()
    for name in ("lag_records", "last_commit_timestamp_seconds", "broker_reachable"):
        assert isnan(samples[f"stream_detector_{name}"]), name
    listener.metrics.observe(RunSummary(lag=0))
    listener.health.broker_reachable = False
    samples = listener.samples()
    assert (samples["stream_detector_lag_records"], samples["stream_detector_broker_reachable"]) == (0, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/livez/"), ("GET", "/metrics/x"), ("POST", "/livez"), ("PUT", "/metrics")],
)
def test_anything_else_is_not_found(listener, method, path):
    """Other paths, and other methods than reading."""
    assert listener.get(path, method)[0] == 404


def test_a_question_may_come_with_a_query_or_without_wanting_the_text(listener):
    """What probes really send."""
    assert listener.get("/livez?verbose")[0] == 200
    assert listener.get("/readyz", "HEAD") == (503, "")


def test_slow_clients_hang_nobody(listener):
    """More connections than there is room for, which say nothing: the next one is answered all the same."""
    idle = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(2 * MOST)]
    try:
        for connection in idle[:MOST]:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX: ")
        assert listener.get("/livez")[0] == 200
        assert listener.get("/metrics")[0] == 200
    finally:
        for connection in idle:
            connection.close()


def test_a_client_that_is_silent_is_let_go(listener, monkeypatch):
    """A connection on which nothing comes is closed."""
    monkeypatch.setattr("stream_detector.worker.listener._Handler.timeout", 0.2)
    with closing(socket.create_connection(("127.0.0.1", listener.port))) as connection:
        connection.settimeout(10)
        assert connection.recv(1) == b""
