"""A broker lost in the middle of a retraining: an error in one line, no half-published model, and the next start goes on."""

import pytest
from workload import feed, fresh_config, small_model, telemetry

from stream_detector.errors import BrokerUnavailableError
from stream_detector.kafka import registry
from stream_detector.retraining.job import Occasion, retrain

GATE = {"least_auc": 0.5, "least_coverage": 0.0, "threshold_move": 9.0, "threshold_move_since_approval": 9.0}


def test_a_broker_lost_half_way_leaves_the_model_in_force(private_broker, tmp_path, monkeypatch):
    """What was trained waits in the run directory; once the broker is back it is judged and published."""
    monkeypatch.setattr(registry, "TIMEOUT", 5.0)
    settings = {"records": 2_000, "least_records": 300, "runs": tmp_path / "runs", "gate": GATE}
    config = fresh_config(
        private_broker,
        model={"steps": 100, "members": 1, "hidden": 16},
        threshold={"target_alert_rate": 0.02, "window": 500, "warmup": 100},
        retrain=settings,
    )
    feed(config, telemetry(900, anomalies=0.0))
    served = registry.publish(config, small_model().to_bytes(), "test", "first")

    def kill_midway(_step, _total, message):
        if message.startswith("loss"):
            private_broker.kill()

    with pytest.raises(BrokerUnavailableError, match=config.topics.models):
        retrain(config, Occasion("broker lost"), "test", kill_midway)
    private_broker.restart()
    assert registry.current(config) == served
    outcome = retrain(config, Occasion("next"), "test", lambda *_: None)

    assert outcome.published
    assert len(list(config.retrain.runs.iterdir())) == 1
    assert registry.current(config).why == "broker lost"
