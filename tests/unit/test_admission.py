"""What is not a sound model of this project does not get into service."""

import hashlib

import pytest
from malformed import NAMES, malformed
from small_models import mixed

from stream_detector.artifact import MAX_HEADER_BYTES
from stream_detector.config import Config
from stream_detector.errors import ModelError, ModelSchemaError
from stream_detector.registry.admission import admitted

CONFIG = Config(worker={"device": "cpu"})


@pytest.fixture(scope="module")
def artifacts():
    """Version and bytes of each malformed artifact, by what is wrong with it."""
    found = {name: (version, data) for name, version, data in malformed(mixed().to_bytes())}
    assert tuple(found) == NAMES
    return found


def test_a_sound_model_is_admitted():
    """The artifact that the others are made from passes."""
    assert admitted(CONFIG, mixed().version, mixed().to_bytes()).version == mixed().version


@pytest.mark.parametrize("name", NAMES)
def test_a_malformed_artifact_is_refused(artifacts, name):
    """Each is refused with one of this project's errors, whatever is wrong, and never half loaded."""
    version, data = artifacts[name]
    with pytest.raises(ModelError):
        admitted(CONFIG, version, data)


def test_a_huge_header_is_refused_unread():
    """A header beyond the limit is refused by its length."""
    data = (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 1)
    with pytest.raises(ModelError, match="header length"):
        admitted(CONFIG, hashlib.sha256(data).hexdigest(), data)


def test_a_model_of_other_features_is_refused():
    """Features that the configuration does not declare are named beside those it does."""
    config = Config(worker={"device": "cpu"}, features=[{"name": "pressure"}])
    with pytest.raises(ModelSchemaError, match=r"load.*pressure"):
        admitted(config, mixed().version, mixed().to_bytes())
