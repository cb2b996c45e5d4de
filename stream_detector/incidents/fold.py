"""Folds alerts, the progress of event time and what people said into incidents; pure, with no input or output.

The last value of each incident is a function of each partition's alerts in the order of their offsets and of how
far its event clock has come. How partitions interleave, how alerts are cut into batches, alerts that come twice
and restarts from the topic's own last values change nothing.
"""

from collections.abc import Iterable
from dataclasses import replace

from stream_detector.config.incident_section import IncidentConfig
from stream_detector.incidents.growth import Growth
from stream_detector.incidents.lane import Lane
from stream_detector.records.alerts import Alert
from stream_detector.records.control_events import Progress
from stream_detector.records.feedback import Feedback
from stream_detector.records.incident import Incident, SourcePartition

__all__ = ["Fold"]


class Fold:
    """Incidents of any partitions; goes on from `incidents`, the topic's last values in their order there."""

    def __init__(self, settings: IncidentConfig, incidents: Iterable[Incident] = ()) -> None:
        self._growth = Growth.of(settings)
        self._lanes: dict[tuple[str, int], list[Lane]] = {}  # of one topic after the other, where it was created anew
        self._named: dict[str, tuple[Lane, str]] = {}  # by the id of an alert
        self._changes: dict[str, Incident | None] = {}
        for incident in incidents:
            lane = self._placed(incident.source)
            self._name(lane, lane.keep(incident))

    def alert(self, alert: Alert, topic_id: str | None = None) -> None:
        """Folds an alert in; alerts of a partition come in the order of their offsets, each id counts once.

        `topic_id` is what the broker called the topic of the record: in a topic created anew offsets come again.
        """
        lane = self._lane(SourcePartition(alert.topic, alert.partition, topic_id))
        self._note(lane, lane.fold(alert))

    def progress(self, progress: Progress) -> None:
        """Resolves what is over, forgets what has been over for long.

        It comes after the alerts of all offsets up to its own; one that is early by less than the cool-down does no harm.
        """
        lane = self._lane(SourcePartition(progress.topic, progress.partition, progress.topic_id))
        self._note(lane, lane.advance(progress.clock))
        for each in self._lanes[progress.topic, progress.partition]:
            for incident in each.forget(progress.clock, but_newest=each is lane):
                self._changes[incident.id] = None
                for named in incident.alerts:
                    if self._named.get(named) == (each, incident.id):  # else it came again in a topic created anew
                        del self._named[named]

    def feedback(self, feedback: Feedback) -> None:
        """Notes a verdict at the incident that names the alert; the last one on an alert counts."""
        lane, id_ = self._named.get(feedback.alert, (None, ""))
        incident = lane.incidents.get(id_) if lane else None
        if lane and incident and incident.verdicts.get(feedback.alert) != feedback.verdict:
            verdicts = incident.verdicts | {feedback.alert: feedback.verdict}
            self._note(lane, [lane.keep(replace(incident, verdicts=verdicts))])

    def changes(self) -> dict[str, Incident | None]:
        """What has changed since the last call, by id; None = no longer on the topic."""
        changes, self._changes = self._changes, {}
        return changes

    def _note(self, lane: Lane, changed: Iterable[Incident]) -> None:
        for incident in changed:
            self._changes[incident.id] = incident
            self._name(lane, incident)

    def _name(self, lane: Lane, incident: Incident) -> None:
        self._named |= dict.fromkeys(incident.alerts, (lane, incident.id))

    def _lane(self, source: SourcePartition) -> Lane:
        """The lane of a partition. What went on in a topic that was there before is over."""
        before = self._lanes.get((source.topic, source.partition), [])[-1:]
        lane = self._placed(source)
        for other in before:
            if other is not lane:
                self._note(other, other.close())
        return lane

    def _placed(self, source: SourcePartition) -> Lane:
        """The lane of a topic, last among those of its partition; without an id the topic is the one there last."""
        lanes = self._lanes.setdefault((source.topic, source.partition), [])
        current = lanes[-1] if lanes else None
        if current and source.topic_id in {None, current.source.topic_id}:
            return current
        if current and current.source.topic_id is None:
            current.source = source
            return current
        lane = next((each for each in lanes if each.source == source), None) or Lane(self._growth, source)
        lanes[:] = [*(each for each in lanes if each is not lane), lane]
        return lane
