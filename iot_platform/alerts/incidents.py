"""Incidents: what a condition finds opens one, once; what is not found any more ends it after a calm time. All pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Literal

Severity = Literal["WARN", "ERROR"]
Key = tuple[str, str]  # kind and subject
PASSING = frozenset({"run_failure", "failed_check", "quarantine_rate", "late_rate"})
"""Kinds that were found when something ran. Nobody may run it again: they are dropped after a while."""


@dataclass(frozen=True)
class Finding:
    """What a condition found wrong now. ``place``: its page in Dagster's UI, from the root. ``failed_at``: when it was
    seen to fail last, if that is later than ``since``."""

    kind: str
    subject: str
    summary: str
    todo: str
    since: datetime
    severity: Severity = "ERROR"
    day: date | None = None
    run_id: str | None = None
    place: str = "/"
    failed_at: datetime | None = None

    @property
    def key(self) -> Key:
        return self.kind, self.subject


@dataclass(frozen=True)
class Told:
    """What one channel was told of an incident: when of its beginning and as how bad, when of its end, and why not."""

    opened: datetime | None = None
    recovered: datetime | None = None
    error: str = ""
    severity: Severity | None = None


@dataclass(frozen=True)
class Incident:
    """Something that went wrong, from when until when. Times are UTC."""

    incident_id: str
    kind: str
    subject: str
    severity: Severity
    summary: str
    todo: str
    opened_at: datetime
    day: date | None = None
    run_id: str | None = None
    place: str = "/"
    cleared_at: datetime | None = None
    recovered_at: datetime | None = None
    ending: Literal["recovered", "expired"] | None = None
    relapses: int = 0
    told: Mapping[str, Told] = field(default_factory=dict)
    failed_at: datetime | None = None

    @property
    def key(self) -> Key:
        return self.kind, self.subject

    @property
    def is_open(self) -> bool:
        return self.recovered_at is None

    def news_for(self, channel: str) -> Literal["opened", "recovered"] | None:
        """What the channel is still to be told. One that never heard of it (set up later) is not told of its end."""
        told = self.told.get(channel)
        if self.is_open:
            # What is clear for a moment may be over soon: then the end is all there is to tell.
            knows = told is not None and told.opened is not None and (told.severity, self.severity) != ("WARN", "ERROR")
            return "opened" if not knows and self.cleared_at is None else None
        if self.ending == "recovered" and told is not None and told.recovered is None:
            return "recovered"
        return None

    def first_told(self, news: Literal["opened", "recovered"]) -> datetime | None:
        moments = [told.opened if news == "opened" else told.recovered for told in self.told.values()]
        return min((moment for moment in moments if moment), default=None)


def open_incident(finding: Finding) -> Incident:
    text = f"{finding.kind}\n{finding.subject}\n{finding.since.isoformat()}"
    return Incident(
        hashlib.sha256(text.encode()).hexdigest()[:16],
        finding.kind, finding.subject, finding.severity, finding.summary, finding.todo, finding.since,
        finding.day, finding.run_id, finding.place, failed_at=finding.failed_at or finding.since,
    )  # fmt: skip


def advance(
    known: Sequence[Incident],
    findings: Sequence[Finding],
    resolved: Collection[Key],
    unknown: Collection[str],
    now: datetime,
    *,
    calm: timedelta,
    forget: timedelta,
) -> list[Incident]:
    """The incidents after a look: open ones go on, clear ones end once they were calm, new findings open new ones.

    ``resolved``: what was seen to be well. What is found only when something runs (``PASSING``) is over by that alone,
    however late; nobody having repeated it for ``forget`` since it failed last, it expires. ``unknown``: kinds that could
    not be looked at; their incidents stay as they are. One that gets worse is told again.
    """
    found = {finding.key: finding for finding in findings}
    after: list[Incident] = []
    for incident in known:
        finding = found.pop(incident.key, None) if incident.is_open else None
        if not incident.is_open:
            after.append(incident)
        elif finding is not None:
            after.append(_goes_on(incident, finding))
        elif incident.kind in unknown:
            after.append(incident)
        elif incident.kind not in PASSING or incident.key in resolved or incident.cleared_at is not None:
            after.append(_is_clear(incident, now, calm))
        elif now - (incident.failed_at or incident.opened_at) >= forget:
            after.append(replace(incident, recovered_at=now, ending="expired"))
        else:
            after.append(incident)
    return [*after, *(open_incident(finding) for finding in found.values())]


def _goes_on(incident: Incident, finding: Finding) -> Incident:
    relapsed = replace(incident, cleared_at=None, relapses=incident.relapses + (incident.cleared_at is not None))
    if incident.kind in PASSING:  # the run that is to be looked at again is the newest that failed
        relapsed = replace(relapsed, run_id=finding.run_id, failed_at=finding.failed_at or finding.since)
    if (incident.severity, finding.severity) != ("WARN", "ERROR"):
        return relapsed
    return replace(relapsed, severity="ERROR", summary=finding.summary, run_id=finding.run_id)


def _is_clear(incident: Incident, now: datetime, calm: timedelta) -> Incident:
    cleared = incident.cleared_at or now
    if now - cleared >= calm:
        return replace(incident, cleared_at=cleared, recovered_at=now, ending="recovered")
    return replace(incident, cleared_at=cleared)
