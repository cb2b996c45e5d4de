"""What a scrape of a worker shows."""

import socket
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_detector.config import MetricsConfig
from stream_detector.errors import ConfigError
from stream_detector.health import Health
from stream_detector.worker.listener import listen
from stream_detector.worker.metrics import WorkerMetrics
from stream_detector.worker.summary import ContextSummary, RunSummary, Stalls


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_scrape_shows_the_last_summary():
    """Records by disposition, dead letters by reason, and lag are read over HTTP as they were observed."""
    metrics, port = WorkerMetrics(), free_port()
    listen(MetricsConfig(port=port), Health(), metrics)
    metrics.observe(
        RunSummary(records=10, normal=7, flagged=1, dead_lettered={"undecodable": 2}, lag=5, missing={"cpu": 3})
    )
    text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    samples = {(s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["stream_detector_records_total", "normal"] == 7
    assert samples["stream_detector_records_total", "dead_lettered"] == 2
    assert samples["stream_detector_dead_letters_total", "undecodable"] == 2
    assert samples["stream_detector_lag_records",] == 5
    assert samples["stream_detector_missing_features_total", "cpu"] == 3


def test_a_scrape_shows_the_model_and_its_changes():
    """The version in force, changes, refusals and how long changes took, as a histogram."""
    metrics, port = WorkerMetrics(), free_port()
    listen(MetricsConfig(port=port), Health(), metrics)
    stalls = Stalls().plus(0.003).plus(0.04).plus(60.0)
    metrics.observe(RunSummary(model="abc", swaps=3, models_refused=1, swap_stalls=stalls))
    text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    samples = {(s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["stream_detector_model_info", "abc"] == 1
    assert samples["stream_detector_swaps_total",] == 3
    assert samples["stream_detector_models_refused_total",] == 1
    buckets = [samples["stream_detector_swap_stall_seconds_bucket", end] for end in ("0.005", "0.05", "10.0", "+Inf")]
    assert buckets == [1, 2, 2, 3]
    assert samples["stream_detector_swap_stall_seconds_count",] == 3


def test_every_metric_of_contexts_stands_in_the_docs():
    """What a worker shows of contexts is explained on the page about health, each by its name."""
    metrics = WorkerMetrics()
    metrics.observe(RunSummary(context=ContextSummary(1, 2, 3, {})))
    page = (Path(__file__).parents[2] / "docs" / "health.md").read_text()
    shown = {sample.name for family in metrics.collect() for sample in family.samples if "_context_" in sample.name}
    assert {name for name in shown if f"`{name}`" in page} == shown
    assert len(shown) == 8


def test_a_port_in_use_is_named():
    """A listener that cannot be had is a configuration error with the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=str(taken.getsockname()[1])):
            listen(MetricsConfig(port=taken.getsockname()[1]), Health(), WorkerMetrics())


def test_metrics_stay_on_this_machine_unless_told_otherwise():
    """The default address is the loopback, and the default is no listener at all."""
    assert (MetricsConfig().host, MetricsConfig().port) == ("127.0.0.1", 0)
