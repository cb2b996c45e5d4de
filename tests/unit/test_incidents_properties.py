"""The last value of each incident is a function of each partition's log: nothing else that happens matters."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from incident_alerts import SETTINGS, alert, clock, folded, progress, silence, take, tell, verdict, write

from stream_detector.incidents.fold import Fold
from stream_detector.records.alerts import Alert
from stream_detector.records.incident import incident_from_json

PARTITIONS = 3
ENTITIES = ("a", "b", None)
KINDS = ("record", "record", "record", "record", "silent", "resumed", "progress", "verdict", "anew")
BRIEF = SETTINGS.model_copy(update={"keep": SETTINGS.quiet + SETTINGS.cooldown})

features = st.permutations(("cpu", "memory", "io", "net")).map(lambda names: tuple(names[:3]))


@st.composite
def logs(draw, partition=0, kinds=KINDS, steps=(0, 1, 5, 11, 90)):
    """What there is to fold of one partition, in the order of its offsets, each with the id of the topic.

    A topic may be created anew on the way; then offsets begin again.
    """
    events, named, minutes, offset, topic_id = [], [], 0, 0, "first"
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=16)):
        minutes += draw(st.sampled_from(steps))
        offset += 1
        if kind == "anew":
            topic_id, offset = "second", 0 if topic_id == "first" else offset
        elif kind == "progress":
            events.append((progress(offset, minutes, partition, topic_id), topic_id))
        elif kind == "verdict" and named:
            said = draw(st.sampled_from(("anomaly", "false-alarm")))
            events.append((verdict(draw(st.sampled_from(named)), said), topic_id))
        elif kind in {"record", "silent", "resumed"}:
            told = draw(alerts(kind, offset, minutes, partition))
            named.append(told.id)
            events.append((told, topic_id))
    return events


@st.composite
def alerts(draw, kind, offset, minutes, partition):
    entity = draw(st.sampled_from(ENTITIES))
    if kind != "record":
        return silence(offset, minutes, entity, kind, partition=partition)
    late, excess = draw(st.sampled_from((0, 0, 200))), draw(st.sampled_from((0.5, 1.0, 3.5)))
    return alert(offset, minutes - late, entity, draw(features), excess, partition=partition, clock=clock(minutes))


all_logs = st.tuples(*(logs(partition=partition) for partition in range(PARTITIONS)))


def alone(log, given=BRIEF):
    """The last values that one undisturbed fold writes, with a transaction for each event."""
    fold, topic = Fold(given), {}
    for event, topic_id in log:
        tell(fold, [event], topic, topic_id)
    return topic


def twice(log, draw):
    """The log with alerts that come again, some long after."""
    events = []
    for at, each in enumerate(log):
        again = log[draw(st.integers(0, at))]
        is_there = isinstance(again[0], Alert) and again[1] == each[1]
        events += [each, again] if is_there and draw(st.booleans()) else [each]
    return events


def as_read(incident):
    """The incident as a restart reads it."""
    return incident_from_json(incident.to_json())


@settings(max_examples=200)
@given(st.data(), all_logs)
def test_only_each_partitions_log_matters(data, lanes):
    """Interleaving, batches, restarts from the topic's own bytes and alerts that come twice change no last value."""
    left = [twice(lane, data.draw) for lane in lanes]
    fold, topic = Fold(BRIEF), {}
    while any(left):
        lane = data.draw(st.sampled_from([events for events in left if events]))
        for _ in range(data.draw(st.integers(1, len(lane)))):
            event, topic_id = lane.pop(0)
            take(fold, event, topic_id)
        if data.draw(st.booleans()):
            write(fold, topic)
            fold = Fold(BRIEF, map(as_read, topic.values())) if data.draw(st.booleans()) else fold
    write(fold, topic)

    assert topic == {id_: incident for lane in lanes for id_, incident in alone(lane).items()}


@given(st.data(), logs(kinds=("record", "record", "progress"), steps=(0, 5, 11)))
def test_progress_that_is_read_early_does_no_harm(data, log):
    """Alerts and progress come from two topics: a clock that is told before the alerts are resolves none for good.

    It may be early by the cool-down; then what nobody was told of is forgotten.
    """
    patient = SETTINGS.model_copy(update={"cooldown": timedelta(hours=10)})
    told = [each for each in log if isinstance(each[0], Alert)]
    for each in log:
        if not isinstance(each[0], Alert):
            told.insert(data.draw(st.integers(0, len(told))), each)

    assert alone(told, patient) == alone(log, patient)


@given(all_logs)
def test_every_alert_is_in_exactly_one_incident(lanes):
    """Alerts of records are neither lost nor counted twice, and no incident mixes entities or partitions."""
    told = [each for lane in lanes for each, topic_id in lane if topic_id == "first" and isinstance(each, Alert)]
    told = {each.id: each for each in told if each.kind == "record"}
    found = folded(*told.values()).values()

    assert sum(each.revision for each in found) == len(told)
    assert sorted(id_ for each in found for id_ in each.alerts) == sorted(told)
    assert all(
        (told[id_].partition, told[id_].entity) == (i.source.partition, i.entity) for i in found for id_ in i.alerts
    )
