"""Alerts of one entity and cause are one incident, from its first alert until the partition's clock finds it quiet."""

from dataclasses import replace
from hashlib import sha256

import orjson
import pytest
from incident_alerts import MINUTE, SETTINGS, alert, at, clock, folded, progress, silence, tell, verdict

from stream_detector.incidents.fold import Fold
from stream_detector.records.feedback import Verdict


def only(topic):
    """The one incident that there is."""
    (incident,) = topic.values()
    return incident


def test_a_fault_of_many_alerts_is_one_incident():
    """Thirty alerts about one thing are one incident: its extent, its peak, its count, and the first 20 ids."""
    alerts = [alert(100 + n, n, excess=1.0 + (n == 7)) for n in range(30)]
    incident = only(folded(*alerts, alert(130, 29, excess=2.0)))

    assert (incident.state, incident.revision - 1, len(incident.alerts)) == ("open", 30, 20)
    assert incident.alerts[0] == "telemetry-0-100"
    assert (incident.begin, incident.end, incident.opened) == (at(0), at(29), at(1))
    assert (incident.peak.alert, incident.peak.excess) == ("telemetry-0-107", 2.0)
    assert incident.severity == "critical"
    assert {(each.value, each.expected) for each in incident.peak.features} == {(9.0, 5.0)}


def test_the_example_of_the_page_is_so():
    """docs/incidents.md tells of a slow disk: what is said there after each line is the incident's state then."""
    slow = ("latency_ms", "a", "b")
    lines = [
        (alert(1, 0, features=slow, excess=1.2), "pending", 0, None),
        (alert(2, 1, features=slow, excess=2.4), "open", 0, at(1)),
        (alert(3, 4, features=("queue_depth", "latency_ms", "c"), excess=0.8), "open", 0, at(1)),
        (progress(4, 14), "resolved", 0, at(1)),
        (alert(5, 40, features=slow), "open", 1, at(1)),
        (progress(6, 50), "resolved", 1, at(1)),
    ]
    for count in range(1, len(lines) + 1):
        event, state, reopened, opened = lines[count - 1]
        incident = only(folded(*(each[0] for each in lines[:count])))
        assert (incident.state, incident.reopened, incident.opened) == (state, reopened, opened), event
    assert (incident.peak.time, incident.revision) == (at(1), 4)


def test_the_id_is_the_hash_of_kind_entity_cause_and_first_alert():
    """Whoever knows the first alert knows the id; a topic created anew, where ids of alerts come again, has others."""
    named = ["record", "db-1", "cpu", "high", "telemetry-0-5"]

    assert list(folded(alert(5, 0))) == [sha256(orjson.dumps(named)).hexdigest()[:16]]
    assert list(folded(alert(5, 0), topic_id="x")) == [sha256(orjson.dumps([*named, "x"])).hexdigest()[:16]]


def test_two_faults_of_one_entity_at_once_are_two_incidents():
    """Alerts about other features open their own; each later alert joins the one that its features lead to."""
    events = [alert(n, n, features=(("cpu", "a", "b"), ("disk", "c", "d"))[n % 2]) for n in range(8)]
    found = folded(*events).values()

    assert sorted((each.cause.feature, each.revision, each.state) for each in found) == [
        ("cpu", 4, "open"),
        ("disk", 4, "open"),
    ]


@pytest.mark.parametrize("older", [("cpu", "a", "b"), ("disk", "c", "d")])
def test_an_alert_about_two_incidents_joins_the_one_it_is_more_about(older):
    """Of two open incidents the one with the higher feature of the alert takes it, whichever is older."""
    newer = {("cpu", "a", "b"): ("disk", "c", "d")}.get(older, ("cpu", "a", "b"))
    topic = folded(alert(1, 0, features=older), alert(2, 0, features=newer), alert(3, 1, features=("disk", "cpu", "e")))

    assert {each.cause.feature: each.revision for each in topic.values()} == {"cpu": 1, "disk": 2}


@pytest.mark.parametrize("other", [{"entity": "db-2"}, {"entity": None}, {"partition": 1}, {"topic": "another"}])
def test_what_is_of_another_entity_or_partition_is_another_incident(other):
    """The same features in another entity, partition or topic open another incident."""
    assert len(folded(alert(1, 0), alert(2, 1, **other))) == 2


def test_few_alerts_are_pending_and_a_strong_one_is_not():
    """One alert is pending; the second opens, and so does one of 3 nines above its threshold alone."""
    assert only(folded(alert(1, 0))).state == "pending"
    assert only(folded(alert(1, 0), alert(2, 1))).opened == at(1)
    assert only(folded(alert(1, 0, excess=3.0))).state == "open"


def test_an_incident_is_over_when_the_clock_passes_its_quiet():
    """Ten minutes of the event clock after the last alert it is resolved, not a millisecond before."""
    events = [alert(1, 0), alert(2, 1)]

    assert only(folded(*events, progress(9, 10.99))).state == "open"
    assert only(folded(*events, progress(9, 11))).state == "resolved"
    assert only(folded(*events)).state == "open"  # nobody says that time goes on


def test_the_clock_of_another_partition_resolves_nothing():
    """Progress counts for its own partition."""
    assert only(folded(alert(1, 0), alert(2, 1), progress(9, 600, partition=1))).state == "open"


def test_within_the_cool_down_the_same_incident_opens_again():
    """An alert that comes soon after the end belongs to the same id, which counts how often it was opened again."""
    incident = only(folded(alert(1, 0), alert(2, 1), progress(8, 30), alert(9, 60)))

    assert (incident.state, incident.reopened, incident.revision) == ("open", 1, 3)
    assert (incident.begin, incident.end) == (at(0), at(60))


def test_after_the_cool_down_a_new_incident_names_the_previous_one():
    """An hour after the end the same fault is another incident."""
    begun = [alert(1, 0), alert(2, 1), alert(9, 71), alert(10, 72), alert(11, 200)]
    first, second, third = folded(*begun).values()

    assert third.previous == second.id
    first, second = folded(*begun[:3]).values()
    assert (second.previous, second.reopened, second.state) == (first.id, 0, "pending")
    assert first.state == "resolved"


def test_what_was_never_open_is_not_opened_again():
    """Single alerts an age apart never add up to evidence."""
    topic = folded(*(alert(n, 20 * n) for n in range(6)))

    assert {(each.state, each.revision, each.previous) for each in topic.values()} == {
        ("resolved", 1, None),
        ("pending", 1, None),
    }


def test_more_must_agree_to_open_again_than_to_join():
    """A feature of hardly any contribution joins an open incident, and does not open one that is over."""
    begun = [alert(1, 0), alert(2, 1)]
    hardly = alert(3, 5, features=("disk", "net", "cpu"))

    assert len(folded(*begun, hardly)) == 1
    assert len(folded(*begun, replace(hardly, clock=clock(30)))) == 2


def test_a_flapping_incident_stays_open_through_its_pauses():
    """Opened again three times it is flapping, and over only after quiet and cool-down together."""
    events = [alert(2 * n + k, 30 * n + k) for n in range(4) for k in (0, 1)]
    incident = only(folded(*events))

    assert (incident.reopened, incident.flapping, incident.revision) == (3, True, 8)
    assert only(folded(*events, progress(99, 90 + 69))).state == "open"
    assert only(folded(*events, progress(99, 91 + 70))).state == "resolved"


def test_a_late_alert_only_widens_the_times():
    """A record whose event time lies an hour back is of the incident that is open at its offset."""
    incident = only(folded(alert(1, 60), alert(2, 0, clock=clock(61)), progress(9, 70.5)))

    assert (incident.begin, incident.end, incident.state) == (at(0), at(60), "open")


def test_alerts_that_come_twice_change_nothing():
    """One offset, and each row of it, is folded once, however late the second copy comes."""
    events = [alert(5, 0, row=0), alert(5, 0, row=1), alert(6, 1), alert(7, 2, entity="db-2")]
    fold, topic = Fold(SETTINGS), {}
    tell(fold, events, topic)
    before = dict(topic)
    tell(fold, [*events, *reversed(events)], topic)

    assert topic == before
    assert [each.revision for each in topic.values()] == [3, 1]


def test_a_topic_created_anew_begins_anew():
    """Offsets and ids come again: what went on in the old topic is over, and the new alerts are folded."""
    fold, topic = Fold(SETTINGS), {}
    tell(fold, [alert(5, 0), alert(6, 1)], topic, "old")
    tell(fold, [alert(5, 2), alert(6, 3)], topic, "new")
    old, new = topic.values()

    assert (old.source.topic_id, old.state, old.revision) == ("old", "resolved", 2)
    assert (new.source.topic_id, new.state, new.revision, new.alerts) == ("new", "open", 2, old.alerts)
    tell(fold, [alert(6, 3)], topic, "new")
    assert list(topic.values()) == [old, new]


def test_what_does_not_change_is_not_written_again():
    """Progress, a copy, a verdict already given, and a topic created anew change what they change, once."""
    fold = Fold(SETTINGS)
    tell(fold, [alert(4, -30, "db-2"), alert(5, 0), alert(6, 1), verdict("telemetry-0-5", "anomaly")], {}, "old")
    again = [alert(5, 0), alert(6, 1), progress(7, 2, topic_id="old"), verdict("telemetry-0-5", "anomaly")]
    assert tell(fold, again, {}, "old") == {}
    assert len(tell(fold, [progress(1, 3, topic_id="new")], {})) == 1
    assert tell(fold, [progress(n, 10 * n, topic_id="new") for n in range(9)], {}) == {}


def test_an_alert_without_the_topics_id_is_of_the_topic_that_is_there():
    """A broker that does not tell ids makes no topic new."""
    fold, topic = Fold(SETTINGS), {}
    for offset, topic_id in enumerate((None, "x", None)):
        tell(fold, [alert(offset, offset)], topic, topic_id)

    assert only(topic).revision == 3


def test_an_entity_that_is_silent_is_an_incident_until_it_resumes():
    """Silence is known at once, is no matter of quiet, and ends with the entity's next record."""
    silent = silence(5, 0)
    incident = only(folded(silent, progress(9, 600)))
    resumed = only(folded(silent, silence(5, 0, "db-2", "resumed"), silence(9, 700, kind="resumed")))

    assert (incident.kind, incident.state, incident.cause.feature, incident.features) == ("silent", "open", None, ())
    assert (resumed.state, resumed.revision, resumed.end) == ("resolved", 2, at(700))
    assert silent.id == f"telemetry-0-5-silent-{sha256(b'db-1').hexdigest()[:16]}"


def test_one_record_tells_of_many_entities_and_is_flagged_itself():
    """Several entities are found silent at one offset, in any order, beside the alert of the record itself."""
    events = [silence(5, 0, entity) for entity in ("c", "a", "b")] + [alert(5, 0)]

    assert sorted((each.kind, each.entity) for each in folded(*events, *events).values()) == [
        ("record", "db-1"),
        ("silent", "a"),
        ("silent", "b"),
        ("silent", "c"),
    ]
    assert {each.revision for each in folded(*events, *events).values()} == {1}


def test_what_has_been_over_for_long_leaves_the_topic():
    """After `keep` it goes; what nobody was told of goes after the cool-down; the newest alert's stays."""
    short = SETTINGS.model_copy(update={"keep": SETTINGS.quiet + 2 * SETTINGS.cooldown})
    events = [alert(1, 0), alert(2, 1), alert(3, 1, "db-2"), alert(4, 1, "db-3")]
    hour = [each.entity for each in folded(*events, progress(9, 75), settings=short).values()]
    day = [each.entity for each in folded(*events, progress(9, 9_999), settings=short).values()]

    assert sorted(hour) == ["db-1", "db-3"]
    assert day == ["db-3"]


def test_an_incident_opened_again_is_kept_from_its_last_end_on():
    """What an earlier end would have made leave the topic stays, when the incident was opened again since."""
    short = SETTINGS.model_copy(update={"keep": SETTINGS.quiet + SETTINGS.cooldown})
    events = [alert(1, 0), alert(2, 1), alert(3, 60), alert(4, 60, "db-2"), progress(9, 100)]

    assert len(folded(*events, progress(10, 139), settings=short)) == 2
    assert len(folded(*events, progress(10, 140), settings=short)) == 1


def test_the_clock_of_a_topic_created_anew_forgets_what_was_in_the_old_one():
    """A verdict then goes to the alert of that id that is there."""
    fold, topic = Fold(SETTINGS), {}
    tell(fold, [alert(5, 0), alert(6, 1)], topic, "old")
    tell(fold, [alert(5, 2), progress(9, 99_999, topic_id="new"), verdict("telemetry-0-5", "anomaly")], topic, "new")

    assert only(topic).verdicts == {"telemetry-0-5": Verdict.ANOMALY}
    assert only(topic).source.topic_id == "new"


def test_an_id_that_came_again_may_leave_first():
    """Of two incidents that name alerts of one id, the newer one leaves the topic before the older one."""
    short = SETTINGS.model_copy(update={"keep": SETTINGS.quiet + SETTINGS.cooldown})
    fold, topic = Fold(short), {}
    tell(fold, [silence(5, 0)], topic, "old")
    tell(fold, [silence(5, 1), silence(6, 2, kind="resumed"), alert(7, 3)], topic, "new")
    tell(fold, [progress(9, 75, topic_id="new")], topic)
    assert {each.source.topic_id for each in topic.values() if each.kind == "silent"} == {"old"}
    tell(fold, [progress(10, 150, topic_id="new")], topic)
    assert [each.kind for each in topic.values()] == ["record"]


def test_an_alert_about_nothing_is_no_part_of_one_about_something():
    """Alerts without features are of an incident of their own."""
    assert len(folded(alert(1, 0, features=()), alert(2, 1), alert(3, 2, features=()))) == 2


def test_a_verdict_is_noted_where_its_alert_is_named():
    """The last verdict on an alert counts; one on an alert that nobody knows changes nothing."""
    said = [verdict("telemetry-0-1", "anomaly"), verdict("telemetry-0-1", "false-alarm"), verdict("x", "anomaly")]
    topic = folded(alert(1, 0), alert(2, 1), *said)

    assert only(topic).verdicts == {"telemetry-0-1": Verdict.FALSE_ALARM}
    assert only(topic).revision == 2


@pytest.mark.parametrize("time", [None, "no time", "9999-12-31T23:59:59-12:00"])
def test_a_record_without_a_time_has_the_clocks(time):
    """Begin and end are the clock's where the record says no time that a calendar has."""
    incident = only(folded(alert(1, 3, event_time=time)))

    assert incident.begin == incident.end == at(3)


def test_without_a_clock_the_records_own_times_count():
    """Alerts of a worker that keeps no clock are apart by their event times."""
    events = [alert(n, minutes, clock=None) for n, minutes in enumerate((0, 1, 30, 31))]
    incident = only(folded(*events))

    assert (incident.reopened, incident.last.clock) == (1, clock(31))
    late = folded(alert(1, 8, clock=None), alert(2, 0, clock=None), alert(3, 17, clock=None))
    assert (only(late).revision, only(late).reopened) == (3, 0)  # a late record does not bring the end nearer
    assert only(folded(alert(1, 0, clock=None), alert(2, 0, clock=None, event_time=None))).last.clock == clock(0)


def test_quiet_is_a_span_of_the_clock_not_of_the_wall():
    """The reading until which an incident waits is its last alert's and the quiet span, in milliseconds."""
    assert only(folded(alert(1, 0))).last.quiet_until == clock(0) + 10 * MINUTE
