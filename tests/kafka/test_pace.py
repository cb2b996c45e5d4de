"""The worker's pace beside a bare loop on the same topic: a ratio of processor time, with a wide margin."""

import pytest
from workload import fresh_config, small_model, telemetry

from benchmarks.speed.streams import ceiling, fill, work

RECORDS = 240_000  # several times what is committed between two reports of the worker


@pytest.mark.slow
def test_a_worker_keeps_near_the_bare_loop(broker):
    """All the worker's care, scoring included, costs less than eight times what consuming, decoding and committing do."""
    config = fresh_config(broker, topics={"partitions": 4})
    fill(config, list(telemetry(5_000, anomalies=0.001)), RECORDS)
    model = small_model()
    floor = max(ceiling(config, model.schema).cpu for _ in range(2))

    def keeps_near():
        pace, summary = work(config, model)
        assert summary.records == RECORDS
        return pace.cpu > floor / 8

    assert any(keeps_near() for _ in range(2))  # the second one, only where the machine disturbed the first


@pytest.mark.slow
def test_a_flood_of_alerts_does_not_bring_the_worker_to_a_halt(broker):
    """With every twentieth record flagged, explained and sent, a record costs at most ten times as much on average."""
    paces = {}
    for share in (0.0, 0.05):
        config = fresh_config(broker, topics={"partitions": 4}, threshold={"target_alert_rate": 0.05})
        fill(config, list(telemetry(5_000, anomalies=share)), RECORDS // 2)
        paces[share], summary = work(config, small_model())
    assert summary.flagged > RECORDS * 0.5 * 0.02
    assert paces[0.05].cpu > paces[0.0].cpu / 10
