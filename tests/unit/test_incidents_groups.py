"""Entities that break together are a group, whatever the order in which their incidents are told."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from incident_alerts import SETTINGS, alert, at, folded, progress

from stream_detector.incidents.groups import Groups, group_id


def outage(entities=4, minutes=0.0, **changes):
    """Incidents of so many entities, each in a partition of its own, with two alerts; every one as it was at each time."""
    told = []
    for number in range(entities):
        events = [alert(n, minutes + n + number, f"e{number}", partition=number, **changes) for n in range(2)]
        told += [one for n in range(3) for one in folded(*events[:n], *[progress(9, 99, number)] * (n == 2)).values()]
        told += folded(*events).values()
    return told


def last(groups, incidents):
    """The last value of each group, written at every change."""
    topic = {}
    for incident in incidents:
        groups.take(incident)
        topic |= groups.changes()
    return topic


def test_an_outage_of_several_entities_is_one_group():
    """Its extent, its worst, its peak and its members are those of all incidents."""
    incidents = [one for one in outage() if one.state == "open"]
    worst = replace(incidents[2], severity="major", peak=replace(incidents[2].peak, score=9.0))
    (group,) = last(Groups(SETTINGS), [*incidents[:2], worst, incidents[3]]).values()

    assert (group.state, group.severity, group.size, group.entities, group.revision) == ("open", "major", 4, 4, 8)
    assert (group.begin, group.end, group.peak) == (at(0), at(4), worst.peak)
    assert [each.entity for each in group.members] == ["e0", "e1", "e2", "e3"]
    assert (group.id, group.cause.feature) == (group_id(worst, SETTINGS), "cpu")


def test_few_entities_are_no_group():
    """Two entities with the same trouble are two incidents; several incidents of one entity are no group."""
    incidents = [one for one in outage(2) if one.state == "open"]
    assert last(Groups(SETTINGS), incidents) == {}
    assert last(Groups(SETTINGS), [replace(incidents[0], id=f"{n:016x}") for n in range(5)]) == {}


def test_an_incident_that_nobody_was_told_of_is_no_member():
    """Pending incidents, of which false alarms are made, form no group."""
    assert last(Groups(SETTINGS), [one for one in outage(9) if one.state == "pending"]) == {}


def test_another_cause_model_or_time_is_another_group():
    """What breaks in another way, under another model or later does not belong."""
    others = [
        *outage(2),
        *outage(2, features=("disk", "a", "b")),
        *outage(2, model_version="n" * 64),
        *outage(2, minutes=30),
    ]
    assert last(Groups(SETTINGS), others) == {}
    assert len({group_id(one, SETTINGS) for one in others}) == 4


def test_a_group_is_resolved_when_all_its_members_are():
    """While one goes on, the group is open."""
    told = outage(3)
    over, going_on = ([one for one in told if one.state == state] for state in ("resolved", "open"))

    assert [group.state for group in last(Groups(SETTINGS), [*over[:2], going_on[2]]).values()] == ["open"]
    assert [group.state for group in last(Groups(SETTINGS), over).values()] == ["resolved"]
    again = replace(over[0], state="open", revision=3)
    (group,) = last(Groups(SETTINGS), [*over, again, *going_on]).values()
    assert (group.state, group.revision) == ("open", 7)


def test_a_group_that_does_not_change_is_not_written_again():
    """An incident that is told twice, or as it was before, changes no group."""
    groups = Groups(SETTINGS)
    assert last(groups, outage())
    assert last(groups, outage()) == {}


def test_a_group_goes_with_its_last_member():
    """When all its incidents have left the topic, so does it."""
    groups = Groups(SETTINGS)
    over = [one for one in outage(3) if one.state == "resolved"]
    (id_,) = last(groups, over)
    gone = []
    for one in (*over, over[0]):
        groups.drop(one)
        gone.append(groups.changes())

    assert gone == [{}, {}, {id_: None}, {}]


@given(st.data(), st.integers(1, 5))
def test_the_order_of_incidents_does_not_matter(data, entities):
    """Any order, any state in between, and incidents that are told twice give the same last value."""
    again = [replace(one, state="open", revision=3) for one in outage(entities) if one.state == "resolved"]
    told = [*outage(entities), *data.draw(st.lists(st.sampled_from(again)))]
    shuffled = data.draw(st.permutations([*told, *data.draw(st.lists(st.sampled_from(told), max_size=5))]))

    at_once = Groups(SETTINGS)
    for one in shuffled:
        at_once.take(one)

    assert last(Groups(SETTINGS), shuffled) == last(Groups(SETTINGS), told) == at_once.changes()
