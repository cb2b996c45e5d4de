"""What an alert makes of an incident: it begins one, joins one, opens one again, or ends a silence."""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self

import orjson

from stream_detector.config.incident_section import IncidentConfig
from stream_detector.incidents.alert_facts import (
    MILLISECOND,
    cause,
    kind_of,
    peak,
    severity,
    time_of,
)
from stream_detector.records.alerts import Alert
from stream_detector.records.incident import Cause, Incident, LastAlert, SourcePartition

__all__ = ["Growth"]

NAMED = 20  # alerts that an incident names by their ids


@dataclass(frozen=True, slots=True)
class Growth:
    """The limits by which incidents grow; spans in milliseconds of the partition's event clock."""

    settings: IncidentConfig
    quiet: int
    cooldown: int
    keep: int

    @classmethod
    def of(cls, settings: IncidentConfig) -> Self:
        """The limits that the configuration gives."""
        spans = (settings.quiet, settings.cooldown, settings.keep)
        return cls(settings, *(span // MILLISECOND for span in spans))

    def begun(self, alert: Alert, clock: int, source: SourcePartition, previous: str | None) -> Incident:
        """The incident that an alert begins."""
        time, kind, why = time_of(alert, clock), kind_of(alert), cause(alert)
        worst, enough = peak(alert, time), self._enough(alert, 1)
        return Incident(
            id=_id(kind, alert, why, source.topic_id),
            kind=kind,
            state="open" if enough else "pending",
            severity=severity(alert),
            source=source,
            entity=alert.entity,
            cause=why,
            begin=time,
            end=time,
            first=time,
            opened=time if enough else None,
            revision=1,
            alerts=(alert.id,),
            models=(alert.model_version,),
            features=tuple(each.feature for each in worst.features),
            peak=worst,
            last=self._last(alert, clock),
            verdicts={},
            previous=previous,
        )

    def joined(self, incident: Incident, alert: Alert, clock: int) -> Incident:
        """The incident with one more alert."""
        time, revision = time_of(alert, clock), incident.revision + 1
        worse = alert.score - alert.threshold > incident.peak.excess
        opened = incident.opened or (time if self._enough(alert, revision) else None)
        return replace(
            incident,
            state="open" if opened else "pending",
            severity=severity(alert) if worse else incident.severity,
            begin=min(incident.begin, time),
            end=max(incident.end, time),
            opened=opened,
            revision=revision,
            alerts=(*incident.alerts, alert.id)[:NAMED],
            models=tuple(dict.fromkeys((*incident.models, alert.model_version))),
            peak=peak(alert, time) if worse else incident.peak,
            last=self._last(alert, clock, incident),
        )

    def reopened(self, incident: Incident, alert: Alert, clock: int) -> Incident:
        """The incident that was over, with one more alert."""
        again = incident.reopened + 1
        return self.joined(replace(incident, reopened=again, flapping=again >= self.settings.flapping), alert, clock)

    def resumed(self, incident: Incident, alert: Alert, clock: int) -> Incident:
        """The incident of an entity that was silent, and sends again: it is over."""
        changed = self.joined(incident, alert, clock)
        return replace(changed, state="resolved", last=replace(changed.last, quiet_until=clock))

    def forgotten_at(self, incident: Incident) -> int:
        """The clock's reading at which an incident that is over leaves the topic: soon, if nobody was told of it."""
        return incident.last.quiet_until + (self.keep if incident.opened else self.cooldown)

    def _enough(self, alert: Alert, revision: int) -> bool:
        settings = self.settings
        strong = alert.score - alert.threshold >= settings.evidence_nines
        return strong or revision >= settings.evidence_alerts or alert.kind != "record"

    def _last(self, alert: Alert, clock: int, incident: Incident | None = None) -> LastAlert:
        """An entity that is silent has no further alerts: its incident waits for it to resume."""
        quiet = self.keep if alert.kind == "silent" else self.quiet
        if incident and incident.flapping:
            quiet += self.cooldown
        quiet_until = max(clock + quiet, incident.last.quiet_until if incident else clock)
        return LastAlert(alert.offset, alert.row, clock, quiet_until)


def _id(kind: str, alert: Alert, why: Cause, topic_id: str | None) -> str:
    """16 hexadecimal digits; ids of alerts come again where a topic is created anew, so it counts, too."""
    named = [kind, alert.entity, why.feature, why.direction, alert.id, *([topic_id] if topic_id else [])]
    return sha256(orjson.dumps(named)).hexdigest()[:16]
