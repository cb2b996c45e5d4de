"""Hypothesis on shared, noisy machines: no deadlines, no complaint about a slow draw."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("noisy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noisy")


@pytest.fixture
def no_pictures(monkeypatch):
    """Trainings whose pictures nobody looks at draw none: that takes longer than a small training."""
    for place in ("plots", "study"):
        monkeypatch.setattr(f"stream_detector.tracking.{place}.save_plots", lambda run: None)
