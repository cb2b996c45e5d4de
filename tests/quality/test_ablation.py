"""The ablation: each variation is what it says, and differs from the default."""

import pytest
from pydantic import ValidationError

from benchmarks.quality.ablation import ABLATION, VARIATIONS, varied
from stream_detector import ModelConfig


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_variation_changes_existing_settings_and_only_these(name):
    """Every path names a setting that the engine has, with an allowed value that is not the default."""
    changes = VARIATIONS[name]
    before, after = ModelConfig().model_dump(mode="json"), varied(changes).model_dump(mode="json")
    changed = {
        f"{section}.{key}" for section, values in after.items() for key in values if values[key] != before[section][key]
    }
    assert changed == set(changes)


def test_a_setting_that_is_gone_is_an_error():
    """A renamed setting fails at once instead of being measured as no change."""
    with pytest.raises(ValidationError, match="no_such_setting"):
        varied({"model.no_such_setting": 1})


def test_no_two_variations_share_results():
    """Keys name files and digests name identities; both are unique."""
    assert len({method.key for method in ABLATION}) == len({method.digest for method in ABLATION}) == len(ABLATION)
