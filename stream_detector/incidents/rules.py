"""What is told of an incident, to whom, and how urgently: rules and mutes, which never change the incident itself.

A rule passes over features: one that deviates the wrong way, or by too little. An incident is muted when every
feature that leads at its peak is passed over.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Self

import orjson

from stream_detector.config.rules_section import RuleConfig
from stream_detector.records.feedback import Mute
from stream_detector.records.incident import Deviation, Group, Incident, Severity

__all__ = ["Rules", "Ruling"]

SHARE = 0.5  # of the first feature's contribution, from which another one leads as well
OPPOSITE = {"up": "low", "down": "high"}  # the direction that a rule passes over


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say of an incident at a moment; `rules` is their SHA-256."""

    muted_by: str | None
    """The rule's name, or who muted it and why; None = somebody is to be told."""
    severity: Severity
    route: str | None
    rules: str


@dataclass(frozen=True, slots=True)
class Rules:
    """Static rules in their order, and the SHA-256 that names them."""

    rules: tuple[RuleConfig, ...]
    sha256: str

    @classmethod
    def of(cls, rules: Iterable[RuleConfig]) -> Self:
        """The rules of a configuration."""
        given = tuple(rules)
        told = [rule.model_dump(mode="json") for rule in given]
        return cls(given, sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest())

    def verdict(self, incident: Incident | Group, now: datetime, mutes: Iterable[Mute] = ()) -> Ruling:
        """What is to be done about an incident at a moment, under the mutes that people have set."""
        led = _leading(incident)
        rules = [rule for rule in self.rules if _lets_in(rule, incident, now) and _is_about(rule.features, led, any)]
        muted = _person(incident, led, now, mutes) or _rule(rules, led)
        severity = next((rule.severity for rule in rules if rule.severity), incident.severity)
        return Ruling(muted, severity, next((rule.route for rule in rules if rule.route), None), self.sha256)


def _leading(incident: Incident | Group) -> list[Deviation]:
    """The features that lead at the peak; none for an entity that is silent."""
    told = incident.peak.features
    return [each for each in told if each.contribution >= SHARE * told[0].contribution]


def _rule(rules: Sequence[RuleConfig], led: Sequence[Deviation]) -> str | None:
    """The name of the rule that mutes an incident: the first to pass over the first feature, if all are."""
    if not led:
        return next((rule.name for rule in rules if rule.mute), None)
    names = [next((rule.name for rule in rules if _passes_over(rule, each)), None) for each in led]
    return names[0] if all(names) else None


def _passes_over(rule: RuleConfig, deviation: Deviation) -> bool:
    if not _names(rule.features, deviation.feature):
        return False
    return rule.mute or OPPOSITE.get(rule.only or "") == deviation.direction or _is_small(rule, deviation)


def _is_small(rule: RuleConfig, deviation: Deviation) -> bool:
    """Tells whether a number lies nearer to the expected one than a rule asks for."""
    value, expected = deviation.value, deviation.expected
    if not isinstance(value, float) or not isinstance(expected, float):
        return False
    apart = abs(value - expected)
    return apart < (rule.least_absolute or 0) or apart < (rule.least_relative or 0) * abs(expected)


def _lets_in(rule: RuleConfig, incident: Incident | Group, now: datetime) -> bool:
    if rule.kinds and incident.kind not in rule.kinds:
        return False
    if not _is_of(incident, rule.entities) or not all(_names(rule.topics, topic) for topic in _topics(incident)):
        return False
    return rule.during is None or rule.during.holds(now)


def _person(incident: Incident | Group, led: Sequence[Deviation], now: datetime, mutes: Iterable[Mute]) -> str | None:
    """Who muted an incident, and why; None when nobody did."""
    for mute in mutes:
        meant = mute.incident in {None, incident.id} and _is_of(incident, mute.entities)
        if meant and mute.holds(now) and _is_about(mute.features, led, all):
            return f"{mute.who}: {mute.why}"
    return None


def _is_about(patterns: Sequence[str], led: Sequence[Deviation], how: Callable[[Iterable[bool]], bool]) -> bool:
    """Tells whether any, or all, of the leading features match; what has none matches no pattern."""
    return not patterns or (bool(led) and how(_names(patterns, each.feature) for each in led))


def _is_of(incident: Incident | Group, patterns: Sequence[str]) -> bool:
    """Tells whether all entities of an incident match; a group that names only some of its members does not."""
    if not patterns:
        return True
    if isinstance(incident, Incident):
        return _names(patterns, incident.entity)
    return incident.size == len(incident.members) and all(_names(patterns, each.entity) for each in incident.members)


def _topics(incident: Incident | Group) -> list[str]:
    if isinstance(incident, Incident):
        return [incident.source.topic]
    return [member.topic for member in incident.members]


def _names(patterns: Sequence[str], name: str | None) -> bool:
    return not patterns or (name is not None and any(fnmatchcase(name, pattern) for pattern in patterns))
