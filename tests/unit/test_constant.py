"""Stuck sensors: a feature that a model knew to vary is not learnt as a constant."""

import pytest
from small_models import mixed

from stream_detector.errors import DataError
from stream_detector.retraining.constant import refuse_stuck


def test_what_the_model_knew_to_vary_may_not_stand_still():
    """A model whose lineage says nothing is asked what it has a scale for."""
    champion = mixed().with_lineage({})
    refuse_stuck(["fixed"], champion.schema, champion)
    refuse_stuck(["host"], champion.schema, champion)
    with pytest.raises(DataError, match="'load' is constant over the whole window"):
        refuse_stuck(["fixed", "load"], champion.schema, champion)


def test_what_the_lineage_says_counts():
    """Where the lineage names the constant features, it is believed."""
    champion = mixed().with_lineage({"constant": ["load"]})
    refuse_stuck(["load"], champion.schema, champion)
    with pytest.raises(DataError, match="'fixed'"):
        refuse_stuck(["fixed"], champion.schema, champion)
