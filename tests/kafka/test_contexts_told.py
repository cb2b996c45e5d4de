"""What operators are told of contexts: metrics, `status` and `validate --live`; every figure is true."""

import json
from collections import Counter

import pytest
from confluent_kafka import TopicPartition
from context_runs import RECORDS, again, cut, drain, written
from prometheus_client import CollectorRegistry
from workload import (
    THRESHOLD,
    Running,
    alter,
    contextual_model,
    ends,
    entity_telemetry,
    feed,
    fresh_config,
    published,
    small_model,
    telemetry,
    until,
)

from stream_detector.audit.replay import RecordPosition, state_at
from stream_detector.kafka.group import offset_metadata, progress
from stream_detector.worker.judge import Judge
from stream_detector.worker.metrics import WorkerMetrics


@pytest.fixture(scope="module")
def judged(broker):
    """What one worker has judged, and its last summary while it still ran."""
    config = again(broker)
    published(config, contextual_model())
    with Running(config, None) as running:
        until(lambda: running.seen.records == RECORDS, "all is judged")
        summary = running.seen
    return config, summary


@pytest.fixture
def said(command, tmp_path):
    """Runs `stream-detector ARGS` under a configuration; returns standard output."""

    def run(config, *args):
        code, out, err = command(*args, "-c", written(config, tmp_path))
        assert (code, err) == (0, "")
        return out

    return run


def contexts(config, model):
    """The context at the end of every partition, rebuilt from the log by nobody's leave."""
    judge = Judge(model, config)
    return {place: state_at(config, judge, RecordPosition(*place, end)).context for place, end in ends(config).items()}


def samples(summary):
    """What a scrape shows after this summary, by name."""
    registry = CollectorRegistry()
    registry.register(metrics := WorkerMetrics())
    metrics.observe(summary)
    return {sample.name: sample.value for family in registry.collect() for sample in family.samples}


def test_metrics_count_what_is_committed_of_contexts(judged):
    """Entities are those of the tables at the end; every record that was read is counted once, with what it lacked."""
    config, summary = judged
    found = samples(summary)
    held = contexts(config, contextual_model()).values()
    assert found["stream_detector_context_entities"] == sum(each.entities for each in held) > 0
    assert found["stream_detector_context_records_total"] == RECORDS
    assert 0 < found["stream_detector_context_full_records_total"] < RECORDS
    assert found["stream_detector_context_memory_bytes"] == summary.context.bytes > 0
    assert (
        found["stream_detector_context_partitions_partial"]
        == found["stream_detector_context_partial_records_total"]
        == 0
    )
    assert min(found[f"stream_detector_context_{name}_total"] for name in ("late_records", "evictions")) > 10


def test_a_model_without_a_context_has_no_metric_of_one(broker):
    """Nothing is shown of what there is not."""
    config = fresh_config(broker)
    feed(config, telemetry(30))
    assert not [name for name in samples(drain(config, small_model())) if "context" in name]


def test_counts_do_not_depend_on_batches_or_restarts(judged, broker):
    """Workers, one after the other and in small batches, count together what one counts: what is restored counts once."""
    config, values = fresh_config(broker, threshold=THRESHOLD), list(entity_telemetry(RECORDS))
    totals = Counter()
    for first, end, batch in ((0, 900, 64), (900, 1_902, 333), (1_902, RECORDS, 100)):
        feed(config, values[first:end])
        totals.update(drain(config, contextual_model(), batch_records=batch).context.counts)
    assert totals == judged[1].context.counts


def test_status_tells_the_figures_that_stand_beside_the_offsets(judged, said):
    """Entities and evictions of each partition are those of a context rebuilt from the log; the share is that of the worker."""
    config, summary = judged
    held = contexts(config, contextual_model())
    status = json.loads(said(config, "status", "--json"))
    for each in status["partitions"]:
        context = held[each["topic"], each["partition"]]
        assert (each["context"]["entities"], each["context"]["evictions"]) == (context.entities, context.evictions)
    total, counts = status["context"], summary.context.counts
    assert [total[name] for name in ("records", "full", "partial")] == [counts["records"], counts["full"], 0]
    assert total["bytes"] == summary.context.bytes
    (line,) = [line for line in said(config, "status").splitlines() if line.startswith("context: ")]
    assert f"{total['entities']} entities remembered" in line
    assert f"{total['full'] / total['records']:.0%} of 3,000 records had full context" in line


def test_status_says_nothing_of_contexts_that_no_worker_has(broker, said):
    """Without a context in the model there is no line, and null in JSON."""
    config = fresh_config(broker)
    feed(config, telemetry(30))
    drain(config, small_model())
    assert "context" not in said(config, "status")
    assert json.loads(said(config, "status", "--json"))["context"] is None


def test_strange_figures_beside_an_offset_are_passed_over(broker):
    """What another release or a hand wrote there makes no figure, and no error."""
    from confluent_kafka import Consumer

    config = fresh_config(broker)
    feed(config, telemetry(3))
    topic = config.topics.telemetry[0]
    consumer = Consumer({"bootstrap.servers": config.kafka.bootstrap_servers, "group.id": config.kafka.group_id})
    texts = offset_metadata("x", (("entities", 7),)), "release=1 context=a:b,c,,entities:²,x:-1 topic_id=x", "context="
    offsets = [TopicPartition(topic, at, 1, metadata=text) for at, text in enumerate(texts)]
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()
    assert [each.context for each in progress(config)] == [{"entities": 7}, None, None]


def test_validate_holds_what_the_topics_keep_against_what_a_restart_reads(broker, said):
    """An uncut log is enough; a cut one is not, nor is a retention that keeps less than an epoch, its history and the window."""
    config = again(broker)
    published(config, contextual_model())
    topic = config.topics.telemetry[0]
    first = said(config, "validate", "--live")
    assert (
        "reads up to 710 offsets of a partition again: threshold.window 500, context.epoch 150 and context.history 60"
        in first
    )
    assert "OK today, nothing was deleted yet" in first
    assert "3 partitions, 2 tables, 8 entities" in first
    cut(config, 600)
    assert "TOO LITTLE today, 400 offsets are there" in said(config, "validate", "--live")
    alter(config, topic, {"retention.bytes": 100_000, "segment.bytes": 1_048_576})
    kept = said(config, "validate", "--live")
    assert "retention.bytes=100000" in kept
    assert "TOO LITTLE: raise retention" in kept


def test_validate_names_a_compacted_topic(broker, said):
    """Its log cannot be read again as it was."""
    config = again(broker)
    alter(config, config.topics.telemetry[0], {"cleanup.policy": "compact"})
    text = said(config, "validate", "--live")
    assert "NOT REPLAYABLE" in text
    assert "there is no context of entities" in text


def test_validate_reads_the_context_of_the_configuration_before_there_is_a_model(broker, said):
    """What would be fitted counts, and empty topics are no trouble."""
    config = fresh_config(broker, context={"enabled": True, "epoch": 2_000, "history": 500})
    text = said(config, "validate", "--live")
    assert "context.epoch 2,000 and context.history 500" in text
    assert "memory of contexts is not known before the features are" in text
    assert "not known before it has records" in text
