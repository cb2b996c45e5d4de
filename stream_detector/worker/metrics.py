"""Prometheus metrics of a worker; names and units follow the Prometheus conventions."""

from collections.abc import Mapping
from itertools import accumulate
from math import nan
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from stream_detector.health import Health
from stream_detector.worker.summary import STALL_BUCKETS, ContextSummary, RunSummary, Stalls

__all__ = ["WorkerMetrics"]

COUNTERS = {
    "commits": "Transactions committed",
    "aborts": "Transactions aborted",
    "recreations": "Producers replaced after an outcome in doubt",
    "restores": "Thresholds rebuilt from the log",
    "rebalances": "Changes of the assignment",
    "offsets_lost": "Offsets that retention dropped before they were read",
    "topics_recreated": "Telemetry topics created anew under the same name",
    "control_events": "Reports of drift and of changes of regime",
    "outputs_left_out": "Alerts, dead letters, control events and comparisons that their topic took in no form",
    "swaps": "Changes of the model in force",
    "models_refused": "Models that were not fit to serve",
}
GAUGES = {
    "lag": ("lag_records", "Records in the assigned partitions beyond the last one taken; NaN while not known of all"),
    "partitions": ("partitions", "Partitions assigned and read"),
    "warming": ("partitions_warming", "Partitions whose threshold still lacks history"),
}
CONTEXT_COUNTERS = {
    "records": ("records", "Records judged by what their entity did before"),
    "full": ("full_records", "Those whose entity was known by as many records as the longest mean looks back"),
    "partial": ("partial_records", "Those whose partition's log no longer holds all that the context is made of"),
    "late": ("late_records", "Those that were too late to teach what follows them"),
    "evictions": ("evictions", "Entities forgotten to make room for another"),
}


class WorkerMetrics(Collector):
    """Keeps the last summary, and shows it, with the worker's health, to whoever scrapes."""

    def __init__(self, health: Health | None = None) -> None:
        self._summary = RunSummary()
        self._health = health or Health()

    def observe(self, summary: RunSummary) -> None:
        """Takes the worker's figures; called from the worker's thread."""
        self._summary = summary

    def collect(self) -> list[Metric]:
        """The figures as Prometheus metric families."""
        summary = self._summary
        return [
            _dispositions(summary),
            _labelled("dead_letters", "Dead letters committed, by reason", "reason", summary.dead_lettered),
            _labelled("missing_features", "Judged records that lacked a feature", "feature", summary.missing),
            *(_counter(name, text, getattr(summary, name)) for name, text in COUNTERS.items()),
            *(_gauge(name, text, getattr(summary, field)) for field, (name, text) in GAUGES.items()),
            *_contexts(summary.context),
            *_vital_signs(self._health),
            _stalls(summary.swap_stalls),
            InfoMetricFamily("stream_detector_model", "The model in force", value={"version": summary.model}),
        ]


def _dispositions(summary: RunSummary) -> Metric:
    family = CounterMetricFamily(
        "stream_detector_records", "Records committed, by how they ended", labels=["disposition"]
    )
    family.add_metric(["normal"], summary.normal)
    family.add_metric(["flagged"], summary.flagged)
    family.add_metric(["dead_lettered"], sum(summary.dead_lettered.values()))
    return family


def _labelled(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"stream_detector_{name}", text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _contexts(context: ContextSummary | None) -> list[Metric]:
    """Nothing where the model judges records alone."""
    if context is None:
        return []
    return [
        *(
            _counter(f"context_{name}", text, context.counts.get(key, 0))
            for key, (name, text) in CONTEXT_COUNTERS.items()
        ),
        _gauge("context_entities", "Entities remembered, in all partitions assigned", context.entities),
        _gauge("context_memory_bytes", "Memory of what is remembered of entities", context.bytes),
        _gauge(
            "context_partitions_partial",
            "Partitions whose next record has a partial context",
            context.partial_partitions,
        ),
    ]


def _stalls(stalls: Stalls) -> Metric:
    ends = [str(end) for end in STALL_BUCKETS] + ["+Inf"]
    return HistogramMetricFamily(
        "stream_detector_swap_stall_seconds",
        "How long a change of the model held up the worker",
        buckets=list(zip(ends, accumulate(map(float, stalls.counts)), strict=True)),
        sum_value=stalls.seconds,
    )


def _vital_signs(health: Health) -> list[Metric]:
    reachable = health.broker_reachable
    return [
        _gauge("ready", "Whether /readyz says so", int(not health.troubles())),
        _gauge("loop_turn_age_seconds", "Seconds since the loop turned", health.turn_age),
        _gauge("last_commit_timestamp_seconds", "Last commit, Unix time; NaN before the first", health.last_commit),
        _gauge("in_trouble_since_timestamp_seconds", "Oldest trouble, Unix time; NaN without", health.in_trouble_since),
        _gauge("broker_reachable", "Whether the broker answered last; NaN before it was asked", reachable),
    ]


def _counter(name: str, text: str, value: Any) -> Metric:
    return CounterMetricFamily(f"stream_detector_{name}", text, value=value)


def _gauge(name: str, text: str, value: Any) -> Metric:
    return GaugeMetricFamily(f"stream_detector_{name}", text, value=nan if value is None else value)
