"""The logarithm that is written out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_detector.scoring.compiled.arithmetic import log


@given(st.floats(1e-300, 1e300))
def test_the_logarithm_is_numpys(value):
    """Over all magnitudes it differs from NumPy's in what no float32 holds."""
    assert abs(log(value) - np.log(value)) <= 1e-11
