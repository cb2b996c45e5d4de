"""What `import stream_detector` offers, and what it costs."""

import subprocess
import sys

import pytest

import stream_detector


@pytest.mark.parametrize("name", stream_detector.__all__)
def test_every_exported_name_is_there(name):
    """Each name in `__all__` can be had and is documented."""
    assert getattr(stream_detector, name).__doc__


def test_all_names_are_exported_in_order():
    """The exported names are those that have a home, sorted."""
    assert stream_detector.__all__ == sorted(stream_detector.HOMES)


@pytest.mark.parametrize(
    "module", ["consumers.tail", "producers.simulator", "producers.replay", "stream_detector.config"]
)
def test_the_edges_start_without_torch(module):
    """Programs at the edges do not pay for loading torch."""
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_engine_needs_no_broker_client():
    """Fitting and scoring load no Kafka client."""
    script = "import sys, stream_detector; stream_detector.fit; sys.exit('confluent_kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
