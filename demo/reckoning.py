"""The demo's alerts are held against the simulator's labels."""

from collections import Counter
from dataclasses import dataclass, field

from producers.faults import Fault
from stream_detector.records import Alert

__all__ = ["DemoSummary", "Reckoning"]

SHOWN = 8  # alerts shown in full
SHOWN_A_KIND = 2


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What came of the live records. A fault counts as detected when one of its records was flagged,
    an alert as false when no fault touches its record.
    """

    records: int
    faults: int
    detected: int
    false_alarms: int
    alerts: int

    def __str__(self) -> str:
        return (
            f"records={self.records} faults={self.faults} detected={self.detected} "
            f"false_alarms={self.false_alarms} alerts={self.alerts}"
        )


@dataclass(slots=True)
class Reckoning:
    """Alerts held against the labels. `labels` maps the ids of faulty records to their faults."""

    labels: dict[str, Fault]
    alerts: int = 0
    false_alarms: int = 0
    detected: set[Fault] = field(default_factory=set)
    shown: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> set[Fault]:
        """All faults there were."""
        return set(self.labels.values())

    def take(self, alert: Alert) -> str | None:
        """Counts an alert; what to say of it when it is worth showing: one of the first of its kind."""
        fault = self.labels.get(alert.event_id or "")
        news = fault not in self.detected
        self.alerts += 1
        if fault is None:
            self.false_alarms += 1
        else:
            self.detected.add(fault)
        kind = fault.kind.value if fault else "false alarm"
        if not news or self.shown.total() >= SHOWN or self.shown[kind] >= (SHOWN_A_KIND if fault else 1):
            return None
        self.shown[kind] += 1
        return f"{kind} of {' and '.join(fault.features)}" if fault else "nothing: a false alarm"

    def summary(self, records: int) -> DemoSummary:
        """The figures of the last line."""
        return DemoSummary(records, len(self.faults), len(self.detected), self.false_alarms, self.alerts)
