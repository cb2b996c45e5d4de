"""Incidents of several entities or partitions that break together: one model, one cause, one stretch of event time.

A group is the minimum, maximum and union of its members, each as it was last: the order in which incidents come,
and how often, does not matter.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from hashlib import sha256

import orjson

from stream_detector.config.incident_section import IncidentConfig
from stream_detector.incidents.alert_facts import EPOCH
from stream_detector.records.incident import SEVERITY_WORDS, Group, Incident, Member

__all__ = ["Groups", "group_id"]

NAMED = 20  # members that a group names
STATES = ("pending", "open", "resolved")


def group_id(incident: Incident, settings: IncidentConfig) -> str:
    """The id of the group that an incident belongs to, were there others; it never changes."""
    bucket = (incident.first - EPOCH) // settings.group_bucket
    cause = incident.cause
    named = ["group", incident.models[0], incident.kind, cause.feature, cause.direction, bucket]
    return sha256(orjson.dumps(named)).hexdigest()[:16]


class Groups:
    """Folds incidents of any partitions into groups. State is what the incidents say: it is rebuilt from them."""

    def __init__(self, settings: IncidentConfig) -> None:
        self._settings = settings
        self._members: defaultdict[str, dict[str, Incident]] = defaultdict(dict)
        self._changed: dict[str, None] = {}

    def take(self, incident: Incident) -> None:
        """Folds in an incident as it was at some time. One that nobody was told of is no member."""
        id_ = group_id(incident, self._settings)
        known = self._members[id_].get(incident.id) if id_ in self._members else None
        if incident.opened and (known is None or _age(known) < _age(incident)):
            self._members[id_][incident.id] = incident
            self._changed[id_] = None

    def drop(self, incident: Incident) -> None:
        """Forgets an incident that has left the topic; a group goes with its last member."""
        id_ = group_id(incident, self._settings)
        members = self._members.get(id_, {})
        if members.pop(incident.id, None) and not members:
            del self._members[id_]
            self._changed[id_] = None

    def changes(self) -> dict[str, Group | None]:
        """What has changed since the last call, by id; None = no longer on the topic."""
        changed, self._changed = self._changed, {}
        groups = {id_: self._group(id_, self._members[id_].values()) for id_ in changed if id_ in self._members}
        gone = {id_: None for id_ in changed if id_ not in self._members}
        return gone | {id_: group for id_, group in groups.items() if group is not None}

    def _group(self, id_: str, members: Collection[Incident]) -> Group | None:
        """The group of these members, None while they are too few."""
        entities = {_whom(each) for each in members}
        return _grouped(id_, members, len(entities)) if len(entities) >= self._settings.group_members else None


def _grouped(id_: str, members: Iterable[Incident], entities: int) -> Group:
    ordered = sorted(members, key=lambda each: (each.first, each.id))
    return Group(
        id=id_,
        kind="group",
        state="open" if any(each.state == "open" for each in ordered) else "resolved",
        severity=max((each.severity for each in ordered), key=SEVERITY_WORDS.index),
        cause=ordered[0].cause,
        model=ordered[0].models[0],
        begin=min(each.begin for each in ordered),
        end=max(each.end for each in ordered),
        revision=sum(each.revision for each in ordered),
        size=len(ordered),
        entities=entities,
        members=tuple(_member(each) for each in ordered[:NAMED]),
        peak=max((each.peak for each in ordered), key=lambda peak: (peak.excess, peak.alert)),
    )


def _member(incident: Incident) -> Member:
    source = incident.source
    return Member(incident.id, incident.entity, source.topic, source.partition, incident.state)


def _whom(incident: Incident) -> tuple[str, int, str | None]:
    """The entity, which may be in several partitions of one topic; without one, the partition."""
    source = incident.source
    return source.topic, source.partition if incident.entity is None else -1, incident.entity


def _age(incident: Incident) -> tuple[int, int]:
    """How far an incident had come: alerts only add up, and what is over begins again with an alert only."""
    return incident.revision, STATES.index(incident.state)
