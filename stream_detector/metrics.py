"""Prometheus metrics of a worker; names and units follow the Prometheus conventions."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from stream_detector.config import MetricsConfig
from stream_detector.errors import ConfigError
from stream_detector.kafka.summary import STALL_BUCKETS, RunSummary, Stalls

__all__ = ["WorkerMetrics"]

COUNTERS = {
    "commits": "Transactions committed",
    "aborts": "Transactions aborted",
    "recreations": "Producers replaced after an outcome in doubt",
    "restores": "Thresholds rebuilt from the log",
    "rebalances": "Changes of the assignment",
    "offsets_lost": "Offsets that retention dropped before they were read",
    "control_events": "Reports of drift and of changes of regime",
    "swaps": "Changes of the model in force",
    "models_refused": "Models that were not fit to serve",
}
GAUGES = {
    "lag": ("lag_records", "Records in the owned partitions beyond the last one taken"),
    "partitions": ("partitions", "Partitions owned"),
    "warming": ("partitions_warming", "Partitions whose threshold still lacks history"),
}


class WorkerMetrics(Collector):
    """Keeps the last summary, and shows it to whoever scrapes."""

    def __init__(self) -> None:
        self._summary = RunSummary()

    def observe(self, summary: RunSummary) -> None:
        """Takes the worker's figures; called from the worker's thread."""
        self._summary = summary

    def collect(self) -> list[Metric]:
        """The figures as Prometheus metric families."""
        summary = self._summary
        return [
            _dispositions(summary),
            _dead_letters(summary.dead_lettered),
            *(_counter(name, text, getattr(summary, name)) for name, text in COUNTERS.items()),
            *(_gauge(name, text, getattr(summary, field)) for field, (name, text) in GAUGES.items()),
            _stalls(summary.swap_stalls),
            InfoMetricFamily("stream_detector_model", "The model in force", value={"version": summary.model}),
        ]

    def serve(self, config: MetricsConfig) -> None:
        """Listens at `metrics.host` and `metrics.port`; port 0 = not at all. Raises `ConfigError`."""
        if not config.port:
            return
        registry = CollectorRegistry()
        registry.register(self)
        try:
            start_http_server(config.port, config.host, registry)
        except OSError as error:
            raise ConfigError(
                f"metrics.port: cannot listen at {config.host}:{config.port} ({error.strerror}); choose another port"
            ) from None


def _dispositions(summary: RunSummary) -> Metric:
    family = CounterMetricFamily(
        "stream_detector_records", "Records committed, by how they ended", labels=["disposition"]
    )
    family.add_metric(["normal"], summary.normal)
    family.add_metric(["flagged"], summary.flagged)
    family.add_metric(["dead_lettered"], sum(summary.dead_lettered.values()))
    return family


def _dead_letters(reasons: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily("stream_detector_dead_letters", "Dead letters committed, by reason", labels=["reason"])
    for reason, count in sorted(reasons.items()):
        family.add_metric([reason], count)
    return family


def _stalls(stalls: Stalls) -> Metric:
    ends = [str(end) for end in STALL_BUCKETS] + ["+Inf"]
    return HistogramMetricFamily(
        "stream_detector_swap_stall_seconds",
        "How long a change of the model held up the worker",
        buckets=list(zip(ends, accumulate(map(float, stalls.counts)), strict=True)),
        sum_value=stalls.seconds,
    )


def _counter(name: str, text: str, value: Any) -> Metric:
    return CounterMetricFamily(f"stream_detector_{name}", text, value=value)


def _gauge(name: str, text: str, value: Any) -> Metric:
    return GaugeMetricFamily(f"stream_detector_{name}", text, value=value)
