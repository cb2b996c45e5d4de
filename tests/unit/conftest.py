"""Hypothesis on shared, noisy machines: no deadlines, no complaint about a slow draw."""

from hypothesis import HealthCheck, settings

settings.register_profile("noisy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("noisy")
