"""Rules and mutes say who is told of an incident; they never change the incident."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from incident_alerts import NOON, SETTINGS, alert, at, folded, silence
from pydantic import ValidationError

from stream_detector.config import load_config
from stream_detector.config.rules_section import RuleConfig, WindowConfig
from stream_detector.errors import ConfigError
from stream_detector.incidents.groups import Groups
from stream_detector.incidents.rules import Rules
from stream_detector.records.alerts import Contribution
from stream_detector.records.feedback import Mute


def incident(*told, **changes):
    """The incident of one strong alert, about (feature, value, expected, contribution, direction)."""
    about = {"contributions": tuple(Contribution(*each) for each in told)} if told else {}
    (made,) = folded(alert(1, 0, excess=3.0, **about, **changes)).values()
    return made


def rules(*given):
    return Rules.of(RuleConfig(**({"name": f"rule {n}"} | each)) for n, each in enumerate(given))


def muted(made, *given, now=NOON, mutes=()):
    return rules(*given).verdict(made, now, mutes).muted_by


HIGH = ("latency", 12.0, 8.0, 0.9, "high")
LOW = ("latency", 4.0, 8.0, 0.9, "low")


def test_without_rules_everything_is_told():
    """The severity is the incident's own, and nobody in particular is told."""
    ruling = rules().verdict(incident(), NOON)

    assert (ruling.muted_by, ruling.severity, ruling.route) == (None, "critical", None)


@pytest.mark.parametrize(
    ("told", "rule", "is_muted"),
    [
        (LOW, {"only": "up"}, True),
        (HIGH, {"only": "up"}, False),
        (HIGH, {"only": "down"}, True),
        (LOW, {"only": "down"}, False),
        (("latency", None, 8.0, 0.9, "missing"), {"only": "up"}, False),
        (HIGH, {"least_absolute": 4.5}, True),
        (HIGH, {"least_absolute": 4.0}, False),
        (LOW, {"least_absolute": 4.5}, True),
        (HIGH, {"least_relative": 0.6}, True),
        (HIGH, {"least_relative": 0.5}, False),
        (("latency", -12.0, -8.0, 0.9, "low"), {"least_relative": 0.6}, True),
        (HIGH, {"least_relative": 0.5, "least_absolute": 5}, True),
        (("latency", 1e-9, 0.0, 0.9, "high"), {"least_relative": 0.5}, False),
        (("latency", "new", "old", 0.9, "unexpected"), {"least_absolute": 5}, False),
        (HIGH, {"mute": True}, True),
        (HIGH, {"severity": "minor"}, False),
    ],
)
def test_a_feature_that_deviates_the_wrong_way_or_by_too_little_is_passed_over(told, rule, is_muted):
    """Only up, only down, a least deviation in units or as a share of what was expected."""
    assert muted(incident(told), rule | {"features": ["lat*"]}) == ("rule 0" if is_muted else None)


def test_an_incident_is_muted_when_all_that_lead_are_passed_over():
    """A second feature of half the first one's contribution leads as well; one of less does not."""
    strong, weak = (("errors", 9.0, 1.0, share, "high") for share in (0.45, 0.44))
    rule = {"only": "up", "features": ["latency"]}

    assert muted(incident(LOW, strong), rule) is None
    assert muted(incident(LOW, weak), rule) == "rule 0"
    assert muted(incident(LOW, strong), rule, {"mute": True, "features": ["errors"]}) == "rule 0"


@pytest.mark.parametrize(
    ("selector", "is_muted"),
    [
        ({}, True),
        ({"entities": ["x", "db-?"]}, True),
        ({"entities": ["web-*"]}, False),
        ({"topics": ["telemetry"]}, True),
        ({"topics": ["other"]}, False),
        ({"features": ["latency"]}, True),
        ({"features": ["errors"]}, False),
        ({"kinds": ["record"]}, True),
        ({"kinds": ["silent", "group"]}, False),
        ({"entities": ["db-1"], "kinds": ["silent"]}, False),
    ],
)
def test_a_rule_holds_for_what_all_its_selectors_let_in(selector, is_muted):
    """Entities, topics and features by pattern, and kinds."""
    assert (muted(incident(HIGH), {"mute": True} | selector) is not None) == is_muted


def test_a_pattern_for_entities_lets_in_no_incident_without_one():
    """An incident that is of no entity is of none that is named."""
    assert muted(incident(HIGH, entity=None), {"mute": True, "entities": ["*"]}) is None


def test_silence_is_muted_by_what_names_no_feature():
    """An entity that is silent has no feature that could be passed over."""
    (made,) = folded(silence(1, 0)).values()

    assert muted(made, {"mute": True, "features": ["*"]}) is None
    assert muted(made, mutes=[Mute("m", "me", at(0), at(60), "known", features=("*",))]) is None
    assert muted(made, {"only": "up"}) is None
    assert muted(made, {"mute": True, "kinds": ["silent"]}) == "rule 0"


def test_the_first_rule_that_says_a_severity_or_route_counts():
    """A rule that does not let the incident in says nothing."""
    ruling = rules(
        {"entities": ["web-*"], "severity": "warning", "route": "web"},
        {"route": "databases"},
        {"severity": "minor", "route": "all"},
    ).verdict(incident(HIGH), NOON)

    assert (ruling.severity, ruling.route, ruling.muted_by) == ("minor", "databases", None)


def test_a_group_is_let_in_when_all_its_members_are():
    """A rule for some entities does not mute a group that others belong to, or that names not all of its members."""
    groups, made = Groups(SETTINGS), []
    for n in range(25):
        groups.take(incident(HIGH, entity=f"db-{n}"))
        made += groups.changes().values()

    assert muted(made[0], {"mute": True, "entities": ["db-*"], "kinds": ["group"]}) == "rule 0"
    assert muted(made[0], {"mute": True, "entities": ["db-0", "db-1"]}) is None
    assert muted(made[-1], {"mute": True, "entities": ["db-*"]}) is None


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-03-29T00:59:59+00:00", False),
        ("2026-03-29T01:00:00+00:00", True),  # the clocks go from 2:00 to 3:00, where the window begins then
        ("2026-03-29T02:59:59+00:00", True),
        ("2026-03-29T03:00:00+00:00", False),
        ("2026-06-07T00:00:00+00:00", True),  # 2:00 in summer
        ("2026-01-04T00:30:00+00:00", False),
        ("2026-01-04T01:00:00+00:00", True),  # 2:00 in winter
        ("2026-01-04T02:59:59.999+00:00", True),
        ("2026-01-04T03:00:00+00:00", False),
        ("2026-01-05T01:30:00+00:00", False),  # a Monday
    ],
)
def test_a_window_comes_by_the_clocks_of_its_zone(moment, holds):
    """Two hours from 2:00 on Sundays in Berlin: in summer and winter time, and where the clocks are changed."""
    window = WindowConfig(cron="0 2 * * SUN", lasts="PT2H", zone="Europe/Berlin")
    now = datetime.fromisoformat(moment)

    assert window.holds(now) == holds
    assert (muted(incident(HIGH), {"mute": True, "during": window}, now=now) is not None) == holds


@pytest.mark.parametrize(
    ("moment", "holds"), [("2026-03-29T02:59:00+00:00", True), ("2026-03-29T03:00:00+00:00", False)]
)
def test_a_window_lasts_as_long_as_it_says_while_the_clocks_are_changed(moment, holds):
    """Three hours from 1:00 end at 5:00, when 2:00 is followed by 3:00."""
    window = WindowConfig(cron="0 1 * * SUN", lasts="PT3H", zone="Europe/Berlin")
    assert window.holds(datetime.fromisoformat(moment)) == holds


@given(st.integers(0, 10**6), st.integers(1, 120))
def test_a_window_that_begins_every_hour_is_open_so_many_minutes_of_it(minutes, lasts):
    """The minute of the hour tells, also where one window begins before the last one has ended."""
    window = WindowConfig(cron="0 * * * *", lasts=timedelta(minutes=lasts))
    assert window.holds(at(minutes)) == (minutes % 60 < lasts)


def test_a_mute_holds_for_what_it_names_while_it_lasts():
    """From its beginning, until its end, for the incident, the entities and the features it names."""
    made = incident(HIGH)
    mute = Mute("m", "me", at(0), at(60), "known")

    assert muted(made, mutes=[mute]) == "me: known"
    assert muted(made, now=at(60), mutes=[mute]) is None
    assert muted(made, now=at(-1), mutes=[mute]) is None
    for other in ({"incident": "x"}, {"entities": ("web-*",)}, {"features": ("cpu",)}):
        assert muted(made, mutes=[replace(mute, **other)]) is None
    for same in ({"incident": made.id}, {"entities": ("db-*",)}, {"features": ("lat*",)}):
        assert muted(made, mutes=[replace(mute, **same)]) == "me: known"


def test_the_hash_names_the_rules():
    """Equal rules have one SHA-256; a changed rule, or another order, has another."""
    one, two = {"mute": True}, {"severity": "minor"}

    assert rules(one, two).sha256 == rules(one, two).sha256 == rules(one, two).verdict(incident(), NOON).rules
    assert len({rules(one, two).sha256, rules(two, one).sha256, rules(one).sha256, rules().sha256}) == 4
    assert len(rules().sha256) == 64


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("{name: a, muted: true}", "unknown key; did you mean 'mute'"),
        ("{name: a}", "does nothing"),
        ("{name: a, only: sideways}", "got 'sideways'"),
        ("{name: a, severity: bad}", "'warning', 'minor', 'major' or 'critical'"),
        ("{name: a, mute: true, during: {cron: 0 2 * *, lasts: 60}}", "is no crontab expression"),
        ("{name: a, mute: true, during: {cron: 0 2 30 2 *, lasts: 60}}", "Bad day-of-month"),
        ("{name: a, mute: true, during: {cron: 0 2 * * *, lasts: 0}}", "must be above 0"),
        ("{name: a, mute: true, during: {cron: 0 2 * * *, lasts: 60, zone: Mars}}", "is no time zone"),
        ("{name: a, mute: true, during: {kron: 0 2 * * *, lasts: 60}}", "did you mean 'cron'"),
    ],
)
def test_a_wrong_rule_is_named_with_its_line(tmp_path, rule, says):
    """The file, the line, the key, and what to do."""
    path = tmp_path / "detector.yaml"
    path.write_text(f"rules:\n- {{name: good, mute: true}}\n- {rule}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)

    assert f"{path}:3: rules.1" in str(caught.value)
    assert says in str(caught.value)


def test_spans_of_incidents_nest():
    """What is kept outlives the time in which it may be opened again; spans are at least a second."""
    for wrong in ({"keep": 4_000}, {"quiet": 0}, {"cooldown": -1}):
        with pytest.raises(ValidationError):
            SETTINGS.model_validate(SETTINGS.model_dump() | wrong)
