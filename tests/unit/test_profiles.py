"""A model's profile of an entity: what is usual for it over long."""

import numpy as np
import pytest

from stream_detector.context.profiles import HOUR, Profiles
from stream_detector.context.spec import NO_TIME
from stream_detector.context.teaching import Population
from stream_detector.errors import DataError

POPULATION = Population(np.array([50.0, 0.0]), np.array([100.0, 1.0]), 20.0)


def records(seed=0, days=21, entities=5):
    """Records an hour and entity: each entity has a level of its own, is busy by day and quiet on Sundays."""
    rng = np.random.default_rng(seed)
    hours = np.repeat(19_723 * 24 + np.arange(days * 24), entities)  # from Monday, 1 January 2024
    which = np.tile(np.arange(entities), days * 24)
    busy = 10.0 * ((hours % 24 >= 8) & (hours % 24 < 18)) - 5.0 * ((hours // 24 + 3) % 7 == 6)
    first = 30.0 + 10 * which + busy + rng.normal(0, 1, len(hours))
    values = np.column_stack((first, rng.normal(0, 1, len(hours))))
    values[rng.random(values.shape) < 0.02] = np.nan
    return [f"host-{at}" for at in which], hours, values


def learnt(most=100, **kinds):
    names, hours, values = records(**kinds)
    return Profiles.learn(names, hours, values, POPULATION, most)


def test_what_is_usual_for_an_entity_is_no_residual():
    """A value that is usual at this hour of this weekday is near 0, one of another hour is not."""
    profiles, (names, hours, values) = learnt(), records(seed=1)
    level, hour = np.moveaxis(profiles.columns(names, hours, values, POPULATION)[:, :, 0], 1, 0)
    assert np.nanmedian(np.abs(hour)) < 0.5 * np.nanmedian(np.abs(level))
    three, eleven = (19_723 * 24 + 14 * 24 + at for at in (3, 11))
    both = profiles.columns(["host-0"] * 2, np.array([three, eleven]), np.array([[40.0, 0.0]] * 2), POPULATION)
    assert both[0, 1, 0] > both[1, 1, 0] + 1
    assert both[0, 0, 0] == both[1, 0, 0]


def test_few_records_count_for_little():
    """An entity of two records has most of the population's profile; of many, its own."""
    names, hours, values = ["a"] * 2 + ["b"] * 2_000, np.full(2_002, NO_TIME), np.full((2_002, 2), [90.0, 0.0])
    profiles = Profiles.learn(names, hours, values, POPULATION, 10)
    few, many = profiles.columns(["a", "b"], hours[:2], values[:2], POPULATION)[:, 0, 0]
    assert few > 3
    assert abs(many) < 0.5


def test_those_with_the_most_records_have_profiles_and_the_others_share_one():
    """Beyond the cap, ties by name, and for nobody's records, the population's profile is taken."""
    names = ["c"] * 3 + ["b"] * 3 + ["a"] * 2 + ["d"] * 9 + [None]
    profiles = Profiles.learn(names, np.full(18, NO_TIME), np.full((18, 2), 80.0), POPULATION, 2)
    assert profiles.names == ("b", "d")
    assert profiles.places(["a", "b", "c", "d", None, "new"]).tolist() == [0, 1, 0, 2, 0, 0]
    said = profiles.columns(["a", "new", None], np.full(3, NO_TIME), np.full((3, 2), 80.0), POPULATION)
    assert np.array_equal(said[:, 0], [[3.0, 30.0]] * 3)
    assert np.isnan(said[:, 1]).all()


def test_profiles_are_the_same_from_arrays():
    """Stored and read again, profiles say the same to the bit; 24 hours and 7 weekdays are 66 bytes a feature."""
    profiles, (names, hours, values) = learnt(), records(seed=2)
    names[:5] = ["ü", "", "\udc80", "a b", "host-1"]
    odd = Profiles(("\udc80", "ü", *profiles.names[2:]), profiles.rows)
    for each in (profiles, odd):
        again = Profiles.of(each.arrays())
        assert again.names == each.names
        said = (some.columns(names, hours, values, POPULATION) for some in (each, again))
        assert np.array_equal(*said, equal_nan=True)
    assert profiles.arrays()["rows"].nbytes == 66 * 2 * 6


def test_a_record_has_the_same_columns_whatever_is_beside_it():
    """Columns of records alone are those of the batch, to the bit."""
    profiles, (names, hours, values) = learnt(), records(seed=3, days=2)
    whole = profiles.columns(names, hours, values, POPULATION)
    for at in range(0, len(names), 7):
        part = slice(at, at + 7)
        said = profiles.columns(names[part], hours[part], values[part], POPULATION)
        assert np.array_equal(said, whole[part], equal_nan=True)


def test_a_few_wild_records_do_not_rule_a_profile():
    """One record in a hundred beyond all measure moves what is usual by less than a spread."""
    names, hours, values = records()
    wild = values.copy()
    wild[::100, 0] = 1e12
    calm, shaken = (Profiles.learn(names, hours, some, POPULATION, 10).rows for some in (values, wild))
    assert np.abs(calm[:, :HOUR] - shaken[:, :HOUR]).max() < 0.3
    assert np.abs(calm - shaken).max() < 1


def test_without_records_all_share_the_population():
    """No record at all, and a feature that is always missing, are a profile of the population's."""
    none = Profiles.learn([], np.empty(0, np.int64), np.empty((0, 2)), POPULATION, 5)
    assert none.names == ()
    silent = Profiles.learn(["a"] * 9, np.arange(9), np.full((9, 2), np.nan), POPULATION, 5)
    assert np.isfinite(silent.rows).all()


def test_damaged_arrays_are_refused():
    """Names and rows that do not fit each other are named, not read."""
    arrays = learnt().arrays()
    with pytest.raises(DataError, match="damaged"):
        Profiles.of(arrays | {"lengths": arrays["lengths"][:-1]})
