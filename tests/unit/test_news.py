"""Categories never seen: news while they are rare, one change of regime once they are not."""

from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import Stored
from small_models import mixed, mixed_rows

from stream_detector.config import RecordConfig, ThresholdConfig
from stream_detector.detector import detect, history, limits
from stream_detector.records import Decoder
from stream_detector.scoring.threshold import Frequency, RollingThreshold

RECORD = Decoder(RecordConfig())
THRESHOLD = ThresholdConfig(target_alert_rate=0.01, window=400, warmup=100)
LEAST = 40  # a tenth of the window


@given(
    marks=st.lists(st.integers(0, 120), unique=True).map(sorted),
    cuts=st.lists(st.integers(0, 60)),
    span=st.integers(1, 40),
    least=st.integers(1, 8),
)
def test_frequency_is_counted_whatever_the_batches(marks, cuts, span, least):
    """Each mark is told whether enough others lie in the span before it, as counted one by one."""
    frequency, found = Frequency(span, least), []
    for part in np.split(np.array(marks, dtype=np.int64), sorted(cuts)):
        found += frequency.add(part).tolist()
    assert found == [sum(at - span <= other < at for other in marks) >= least for at in marks]


@pytest.fixture(scope="module")
def log():
    """Records of which, from the 300th on, every host has a new name; a few are far off all the same."""
    messages = []
    for offset, row in enumerate(mixed_rows(900, seed=4)):
        if offset >= 300:
            row["host"] += "-renamed"
        if offset % 100 == 50:
            row["load"] += 200.0
        messages.append(Stored(offset, orjson.dumps({"features": row})))
    return messages


def play(messages, size, threshold=None):
    thresholds = {("telemetry", 0): threshold or RollingThreshold(limits(mixed(), THRESHOLD))}
    found = []
    for first in range(0, len(messages), size):
        outcome = detect(messages[first : first + size], mixed(), thresholds, RECORD)
        assert outcome.records == len(messages[first : first + size])
        found += [replace(alert, detection_time="") for alert in outcome.alerts]
    return found


def test_new_names_that_stay_do_not_flood_for_ever(log):
    """The first are flagged by their real name; once a tenth is new, only what is unusual otherwise is, and is explained so."""
    alerts = play(log, 900)
    offsets = [alert.offset for alert in alerts]
    assert sum(300 <= offset < 300 + LEAST for offset in offsets) >= LEAST * 0.8
    after = [alert for alert in alerts if alert.offset >= 300 + LEAST]
    assert {350, 450, 550, 650, 750, 850} <= {alert.offset for alert in after}
    assert len(after) <= 20
    first = next(alert for alert in alerts if alert.offset == 301)
    assert (first.contributions[0].feature, first.contributions[0].direction) == ("host", "unexpected")
    assert first.contributions[0].value in {"a-renamed", "b-renamed", "c-renamed"}
    for alert in after:
        told = {each.feature: each for each in alert.contributions}
        assert str(told["host"].value).endswith("-renamed")
        if alert.offset % 100 == 50:
            assert alert.contributions[0].feature in {"load", "spare"}
        assert alert.score > alert.threshold


def test_a_name_seen_once_is_news_again(log):
    """Where new names are rare every one is flagged."""
    few = [Stored(at, m.value()) for at, m in enumerate(log[:300])]
    for at in (120, 180, 240):
        row = orjson.loads(log[at].value())["features"] | {"host": "intruder"}
        few[at] = Stored(at, orjson.dumps({"features": row}))
    assert {120, 180, 240} <= {alert.offset for alert in play(few, 300)}


@pytest.mark.parametrize("size", [1, 64])
def test_batches_change_nothing(log, size):
    """Which names are news depends on the log alone, not on how it is cut."""
    part = log[280:420]
    assert play(part, size) == play(part, 140)


@pytest.mark.parametrize("cut", [310, 345, 700])
def test_a_restart_changes_nothing(log, cut):
    """Rebuilt from the scores before it, a threshold holds the same for news as one that never stopped."""
    threshold = RollingThreshold(limits(mixed(), THRESHOLD))
    threshold.learn(history(log[:cut], mixed(), RECORD)[-THRESHOLD.window :])
    assert play(log[cut:], 100, threshold) == [alert for alert in play(log, 100) if alert.offset >= cut]
