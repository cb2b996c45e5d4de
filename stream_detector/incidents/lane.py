"""The incidents of one partition of one topic: which one an alert belongs to, and when one is over.

Whether an alert joins an incident, opens it again or begins one depends on the event clock at the alert, never on
when the fold was told how late it is.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from heapq import heappop, heappush
from itertools import takewhile

from stream_detector.incidents.alert_facts import clock_of, kind_of, leading
from stream_detector.incidents.growth import Growth
from stream_detector.records.alerts import Alert
from stream_detector.records.incident import Incident, IncidentKind, SourcePartition

__all__ = ["Lane"]

NOWHERE = (-1, -1)
Due = tuple[int, str]  # what the clock reads when something is to happen to an incident, and its id
Shelf = tuple[IncidentKind, str | None, bool]  # kind, entity, and whether anybody was told


class Lane:
    """Folds the alerts of one partition in the order of their offsets; clocks in milliseconds."""

    def __init__(self, growth: Growth, source: SourcePartition) -> None:
        self.source = source
        self.incidents: dict[str, Incident] = {}
        """All that are kept, by id."""
        self._growth = growth
        self._shelves: defaultdict[Shelf, list[Due]] = defaultdict(list)  # by when they are quiet
        self._quiet: list[Due] = []  # heaps, in which an entry that is out of date is passed over
        self._over: list[Due] = []
        self._clock: int | None = None
        self._last = (-1, 0)  # offset and clock of the alert folded last
        self._row = NOWHERE  # offset and row of the flagged record folded last

    def keep(self, incident: Incident) -> Incident:
        """Takes an incident as it is now, made here or read from the topic."""
        self._remove(incident.id)
        self.incidents[incident.id] = incident
        insort(self._shelves[_shelf(incident)], (incident.last.quiet_until, incident.id))
        if incident.state == "resolved":
            heappush(self._over, (self._growth.forgotten_at(incident), incident.id))
        else:
            heappush(self._quiet, (incident.last.quiet_until, incident.id))
        self._last = max(self._last, (incident.last.offset, incident.last.clock))
        if incident.kind == "record":
            self._row = max(self._row, _row(incident.last.offset, incident.last.row))
        return incident

    def fold(self, alert: Alert) -> Iterator[Incident]:
        """Folds an alert in; gives what has changed. An alert that was folded before changes nothing."""
        if self._is_known(alert):
            return
        if alert.clock is not None:
            yield from self.advance(alert.clock)
        changed = self._changed(alert, clock_of(alert, self._last[1]))
        if changed is not None:
            yield self.keep(changed)
            yield from self._resolved()

    def advance(self, clock: int) -> Iterator[Incident]:
        """Moves the clock forward; gives what is over by then."""
        self._clock = clock if self._clock is None else max(clock, self._clock)
        yield from self._resolved()

    def close(self) -> Iterator[Incident]:
        """Resolves everything, for the topic is gone; gives what has changed."""
        for incident in list(self.incidents.values()):
            if incident.state != "resolved":
                yield self.keep(replace(incident, state="resolved"))

    def forget(self, clock: int, *, but_newest: bool) -> Iterator[Incident]:
        """Drops, and gives, what the topic need not hold any more.

        What has the newest alert tells which alerts have been folded: it stays while more of them may come.
        """
        spared = []
        while self._over and self._over[0][0] <= clock:
            due, id_ = heappop(self._over)
            incident = self.incidents.get(id_)
            if incident is None or incident.state != "resolved" or self._growth.forgotten_at(incident) != due:
                continue  # forgotten, or opened again since
            if but_newest and incident.last.offset == self._last[0]:
                spared.append((due, id_))
                continue
            self._remove(id_)
            yield incident
        for entry in spared:
            heappush(self._over, entry)

    def _resolved(self) -> Iterator[Incident]:
        while self._clock is not None and self._quiet and self._quiet[0][0] <= self._clock:
            due, id_ = heappop(self._quiet)
            incident = self.incidents.get(id_)
            if incident and incident.last.quiet_until == due:
                yield self.keep(replace(incident, state="resolved"))

    def _remove(self, id_: str) -> None:
        incident = self.incidents.pop(id_, None)
        if incident is not None:
            shelf = self._shelves[_shelf(incident)]
            del shelf[bisect_left(shelf, (incident.last.quiet_until, id_))]
            if not shelf:
                del self._shelves[_shelf(incident)]

    def _is_known(self, alert: Alert) -> bool:
        """Tells whether an alert, or one behind it in the log, was folded before."""
        if alert.offset != self._last[0]:
            return alert.offset < self._last[0]
        if alert.kind == "record":
            return _row(alert.offset, alert.row) <= self._row
        return any(each.last.offset == alert.offset for each in self._latest(alert, told=True))

    def _changed(self, alert: Alert, clock: int) -> Incident | None:
        shelves = (self._latest(alert, told=told) for told in (True, False))
        live = [each for shelf in shelves for each in takewhile(lambda each: clock < each.last.quiet_until, shelf)]
        alike = [each for each in live if _is_about(each, leading(alert))]
        if alert.kind == "resumed":
            return self._growth.resumed(alike[0], alert, clock) if alike else None
        if alike:
            return self._growth.joined(min(alike, key=lambda each: _rank(each, alert)), alert, clock)
        return self._again(alert, clock)

    def _again(self, alert: Alert, clock: int) -> Incident:
        """The incident that was over and is opened again, or one that begins.

        More must agree than while one is open, where a feature of hardly any contribution is enough: else two faults
        within one cool-down become one.
        """
        growth = self._growth
        weighty = leading(alert, growth.settings.least_contribution)
        last = next((each for each in self._latest(alert, told=True) if _is_about(each, weighty)), None)
        if last is None:
            return growth.begun(alert, clock, self.source, None)
        if clock < last.last.quiet_until + growth.cooldown:
            return growth.reopened(last, alert, clock)
        return growth.begun(alert, clock, self.source, last.id)

    def _latest(self, alert: Alert, *, told: bool) -> Iterator[Incident]:
        """The incidents of the alert's entity, the latest to be quiet first: those that were open, or never were."""
        shelf = self._shelves.get((kind_of(alert), alert.entity, told), [])
        return (self.incidents[id_] for _, id_ in reversed(shelf))


def _shelf(incident: Incident) -> Shelf:
    return incident.kind, incident.entity, incident.opened is not None


def _row(offset: int, row: int | None) -> tuple[int, int]:
    return (offset, -1 if row is None else row)


def _is_about(incident: Incident, features: frozenset[str]) -> bool:
    """Tells whether an incident is about one of these features, or about none, as that of an entity that is silent."""
    return not features.isdisjoint(incident.features) or not (features or incident.features)


def _rank(incident: Incident, alert: Alert) -> tuple[int, datetime, str]:
    """Orders incidents by how much an alert is about them, then by age."""
    told = [each.feature for each in alert.contributions]
    return min((told.index(each) for each in incident.features if each in told), default=0), incident.first, incident.id
