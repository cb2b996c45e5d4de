"""The context of an entity is a function of the log alone: whatever batches and restarts cut it into."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from stream_detector.context.clock import borne_out, local_hours, zone
from stream_detector.context.epochs import PartitionContext
from stream_detector.context.spec import NO_TIME, ContextSpec
from stream_detector.context.teaching import COLUMNS, Population
from stream_detector.errors import ConfigError

SECOND, HOUR, DAY = 10**9, 3_600 * 10**9, 24 * 3_600 * 10**9
MONDAY = 1_704_067_200 * SECOND  # 1 January 2024, 0:00 UTC
SPEC = ContextSpec(("load", "heat"), epoch=200, history=60, most_entities=12)


class Log:
    """A partition's log with all that is hard: holes, also on the ends of epochs; late, future and missing times;
    rows that share an offset; records without an entity; more entities than a table holds."""

    def __init__(self, seed, count=1_500, features=2):
        rng = np.random.default_rng(seed)
        holes = {*rng.integers(0, 1_400, 150).tolist(), *range(0, 2_000, SPEC.epoch)[:: rng.integers(1, 3)]}
        kept = [offset for offset in range(2_000) if offset not in holes][:count]
        self.offsets = np.sort(np.where(rng.random(count) < 0.1, np.roll(kept, 1), kept)).astype(np.int64)
        self.entities = [None if rng.random() < 0.02 else f"host-{at}" for at in rng.zipf(1.4, count) % 40]
        times = MONDAY + np.cumsum(rng.integers(0, 900, count)) * SECOND
        times = np.where(rng.random(count) < 0.05, times - rng.integers(0, 40_000, count) * SECOND, times)
        times = np.where(rng.random(count) < 0.01, times + 365 * DAY, times)
        self.times = np.where(rng.random(count) < 0.02, NO_TIME, times)
        self.values = rng.normal(size=(count, features)) * [1.0, 1e-3] + [1e6, 0.0]
        self.values[rng.random((count, features)) < 0.03] = np.nan

    def hours(self, part):
        return np.where(self.times[part] == NO_TIME, NO_TIME, self.times[part] // HOUR)

    def columns(self, context, first, last):
        """What the context says of the records [first, last), one matrix."""
        part = slice(first, last)
        said = context.columns(
            self.offsets[part], self.entities[part], self.times[part], self.hours(part), self.values[part], population()
        )
        return np.hstack((said.columns.reshape(last - first, -1), said.gaps, said.known[:, None]))

    def restarted(self, at):
        """A context that is where an undisturbed one is before the offset of record `at`, and its first record."""
        first = int(np.searchsorted(self.offsets, self.offsets[at]))
        begin = int(np.searchsorted(self.offsets, SPEC.start(int(self.offsets[at]))))
        context, cut = PartitionContext(SPEC), (begin + first) // 2
        for part in (slice(begin, cut), slice(cut, first)):
            context.teach(
                self.offsets[part], self.entities[part], self.times[part], self.hours(part), self.values[part]
            )
        return context, first

    def cut(self, cuts, first=0):
        """The columns from record `first` on, read in batches that end at `cuts`."""
        context, ends = PartitionContext(SPEC), [first, *sorted({at for at in cuts if at > first}), len(self.offsets)]
        read = [self.columns(context, *pair) for pair in pairwise(ends)]
        return np.vstack(read), context


def population(weight=20.0, features=2):
    return Population(np.array([1e6, 0.0])[:features], np.array([1.0, 1e-6])[:features], weight)


def steady(values, times=None, spec=None):
    """What the context says of one entity's values of one feature, last record first known."""
    values = np.asarray(values, float).reshape(-1, 1)
    spec = spec or ContextSpec(("load",))
    times = np.full(len(values), NO_TIME) if times is None else np.asarray(times, np.int64)
    hours = np.where(times == NO_TIME, NO_TIME, times // HOUR)
    one = Population(np.zeros(1), np.ones(1), 20.0)
    said = PartitionContext(spec).columns(np.arange(len(values)), ["a"] * len(values), times, hours, values, one)
    return dict(zip(COLUMNS, said.columns[:, :, 0].T, strict=True)), said


@pytest.mark.parametrize("seed", range(5))
def test_batches_and_restarts_change_no_bit(seed):
    """A thousand random cuts into batches and restarts, each over five ends of epochs or more, have the same columns.

    A restart goes through the log from the specification's start on, and reads no columns on the way.
    """
    log, rng = Log(seed), np.random.default_rng(seed)
    whole, context = log.cut([])
    assert min(context.evictions, context.late) > 0
    assert context.counts["records"] == len(log.offsets)
    assert context.counts["full"] == (whole[:, -1] >= SPEC.horizons[-1]).sum()
    assert not np.isin(np.arange(0, log.offsets[-1], SPEC.epoch), log.offsets).all()
    latest = int(np.searchsorted(log.offsets // SPEC.epoch, log.offsets[-1] // SPEC.epoch - 5, "right"))
    for _ in range(200):
        start, *cuts = sorted(
            {int(rng.integers(latest)), *rng.integers(0, len(log.offsets), rng.integers(1, 12)).tolist()}
        )
        context, first = log.restarted(start)
        for last in (*cuts, len(log.offsets)):
            assert np.array_equal(log.columns(context, first, last), whole[first:last], equal_nan=True)
            first = last
            if rng.random() < 0.3 and last < len(log.offsets):
                context, first = log.restarted(last)


@pytest.mark.parametrize("seed", range(3))
def test_an_epoch_knows_its_own_history_and_no_more(seed):
    """Records of epoch k have the columns of a table that is taught from k epoch - history on, and by nothing before."""
    log = Log(seed)
    whole, _ = log.cut([])
    for begin in range(0, int(log.offsets[-1]) + 1, SPEC.epoch):
        first, at, last = np.searchsorted(log.offsets, [begin - SPEC.history, begin, begin + SPEC.epoch]).tolist()
        fresh = PartitionContext(replace(SPEC, epoch=1_000_000))
        assert np.array_equal(log.columns(fresh, first, last)[at - first :], whole[at:last], equal_nan=True)


def test_numbers_given_anew_change_no_bit():
    """Entities that come and go are numbered anew now and then, which no column shows."""
    spec = ContextSpec(("load",), most_entities=5)
    rng = np.random.default_rng(0)
    names = [f"host-{at}" for at in rng.integers(0, 400, 2_000)]
    values, none = rng.normal(size=(2_000, 1)), np.full(2_000, NO_TIME)
    one = Population(np.zeros(1), np.ones(1), 20.0)
    at_once = PartitionContext(spec).columns(np.arange(2_000), names, none, none, values, one)
    context = PartitionContext(spec)
    for at in range(0, 2_000, 50):
        part = slice(at, at + 50)
        said = context.columns(np.arange(2_000)[part], names[part], none[part], none[part], values[part], one)
        assert np.array_equal(said.columns, at_once.columns[part], equal_nan=True)
    assert len(context._numbers) < 100


def test_the_entity_taught_the_longest_ago_makes_room():
    """Of three entities with room for two, the one that was taught last stays known."""
    spec = ContextSpec(("load",), most_entities=2)
    context, one = PartitionContext(spec), Population(np.zeros(1), np.ones(1), 20.0)
    names, none = ["a", "b", "a", "c", "a", "b"], np.full(6, NO_TIME)
    said = context.columns(np.arange(6), names, none, none, np.zeros((6, 1)), one)
    assert said.known.tolist() == [0, 0, 1, 0, 2, 0]
    assert context.evictions == 2


def test_a_value_is_held_against_what_is_usual_for_its_entity():
    """A jump of many spreads shows at once in the short means, and is none for an entity that is always there."""
    rng = np.random.default_rng(0)
    calm = rng.normal(50.0, 2.0, 400)
    jumped, _ = steady([*calm, 80.0])
    assert jumped["short"][-1] > 4
    assert abs(jumped["medium"][-2]) < 2
    high, _ = steady(calm + 30.0)
    assert abs(high["short"][-1]) < 2


def test_means_forget_what_lies_beyond_their_horizon():
    """Twelve high records raise the long mean, and are out of it after its horizon; of a missing value nothing is said."""
    calm = np.random.default_rng(1).normal(0.0, 1.0, 500)
    calm[400:412] += 15.0
    calm[460] = np.nan
    said, _ = steady(calm)
    assert said["long"][411] > 2
    assert said["short"][411] > said["long"][411]
    assert said["long"][412 + 12] > 1.5
    assert abs(said["long"][412 + 33]) < 0.7
    assert all(np.isnan(said[name][460]) and not np.isnan(said[name][461]) for name in ("short", "medium", "long"))


def test_the_hour_of_the_day_is_known_after_a_day():
    """A load that is usual by day stands out at night, where the level of the whole day says nothing."""
    times = MONDAY + np.arange(6 * 24 * 12) * 300 * SECOND
    hours = times // HOUR % 24
    rng = np.random.default_rng(0)
    load = np.where((hours >= 8) & (hours < 18), 80.0, 20.0) + rng.normal(0, 1.0, len(times))
    assert hours[-12] == 23
    load[-12] = 80.0
    said, _ = steady(load, times)
    assert said["residual"][-12] > 20 * np.nanmedian(np.abs(said["residual"][-400:-12]))
    assert np.isnan(said["residual"][:12]).all()


def test_a_weekday_of_its_own_is_learnt():
    """A Sunday that is always quieter is no residual after a few weeks."""
    times = MONDAY + np.arange(10 * 7 * 24) * HOUR
    sunday = (times // DAY + 3) % 7 == 6
    said, _ = steady(np.where(sunday, 10.0, 50.0) + np.random.default_rng(0).normal(0, 0.5, len(times)), times)
    residual = said["residual"][sunday].reshape(10, 24).mean(axis=1)
    assert residual[1] < -1
    assert abs(residual[-1]) < 0.1


def test_one_record_from_the_future_makes_no_later_one_late():
    """A clock a year ahead moves its entity's by the cap at most, and three records that agree set it back."""
    times = MONDAY + np.arange(40) * 60 * SECOND
    times[20] += 365 * DAY
    _, said = steady(np.zeros(40), times)
    assert said.known[-1] == 37  # two were late, the third set the clock back
    assert borne_out(times[20:21], times[19:20], 5 * SECOND) == times[19] + 5 * SECOND


def test_a_late_record_is_told_of_and_teaches_nothing():
    """A record older than the newest of its entity by more than the grace has columns, and leaves none."""
    times = MONDAY + np.arange(30) * 60 * SECOND
    late, values = times.copy(), np.zeros(30)
    late[20], values[20] = times[5], 1_000.0
    said, _ = steady(values, late)
    assert said["short"][20] > 9
    assert abs(said["short"][21]) < 1


def test_a_long_silence_shows_in_the_gap():
    """The time since an entity's last record, against its usual time between two: -1 to 1."""
    times = MONDAY + np.r_[np.arange(50) * 60, 50 * 60 + 3_000] * SECOND
    _, said = steady(np.zeros(51), times)
    assert said.gaps[-1, 0] > 0.9
    assert abs(said.gaps[-2, 0]) < 0.1


def test_a_wild_value_teaches_only_so_much():
    """Beyond the clip a value moves what is usual no further than the clip does."""
    calm = np.random.default_rng(0).normal(0, 1.0, 200)
    after = [steady([*calm, wild, 0.0])[0]["long"][-1] for wild in (100.0, 1e9)]
    assert after[0] == pytest.approx(after[1], rel=0.05)


def test_memory_of_an_entity_is_under_four_kilobytes():
    """A table of many entities of 16 features takes what the documentation says."""
    spec = ContextSpec(tuple("abcdefghijklmnop"), most_entities=2_000)
    context, none = PartitionContext(spec), np.full(2_000, NO_TIME)
    one = Population(np.zeros(16), np.ones(16), 20.0)
    names = [f"host-{at}" for at in range(2_000)]
    context.columns(np.arange(2_000), names, none, none, np.zeros((2_000, 16)), one)
    assert context.entities == 2_000
    assert context.memory / context.entities < 4_096


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"])
def test_hours_are_those_of_the_zone(name):
    """Clocks of the zone, also on the days they are changed; what has no time has no hour."""
    times = (1_711_800_000 + np.arange(0, 400_000, 1_111)) * SECOND
    hours = local_hours(np.r_[times, NO_TIME], ZoneInfo(name))
    for moment, hour in zip(times, hours, strict=False):
        assert hour % 24 == datetime.fromtimestamp(int(moment) / SECOND, UTC).astimezone(ZoneInfo(name)).hour
    assert hours[-1] == NO_TIME


def test_what_cannot_be_is_refused():
    """A history longer than an epoch, no entity at all, a zone that nobody knows."""
    with pytest.raises(ConfigError, match=r"context\.history"):
        ContextSpec((), epoch=10, history=11)
    with pytest.raises(ConfigError, match="most_entities"):
        ContextSpec((), most_entities=0)
    with pytest.raises(ConfigError, match="no time zone"):
        zone("Middle/Earth")


def test_a_specification_has_a_name_that_all_of_it_decides():
    """Equal specifications have one hash on every machine; any change has another."""
    assert ContextSpec(("a",)).hash == ContextSpec(("a",)).hash
    assert len({ContextSpec(("a",)).hash, ContextSpec(("b",)).hash, ContextSpec(("a",), grace=1).hash}) == 3
