"""What the alerts look at, gathered once a tick: plain data, so that every condition is a pure function of it.

A part that could not be looked at is None, which is not the same as all being well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, some of whose outputs nobody made since. ``what``: its first failed step, or its job.

    ``days``: the dates still unmade. ``is_explained``: a failed check made it fail, and that is an incident of its own.
    """

    run_id: str
    what: str
    error: str
    ended_at: datetime
    days: Sequence[date] = ()
    is_explained: bool = False


@dataclass(frozen=True)
class FailedRunsSeen:
    """``unmade``: runs whose work nobody did since. ``over``: ids of runs whose work was done, or that a later attempt at
    the same took the place of."""

    unmade: Sequence[FailedRun] = ()
    over: Collection[str] = ()


@dataclass(frozen=True)
class CheckResult:
    """The newest result of a check of one date (None: of the whole table)."""

    asset: str
    check: str
    day: date | None
    passed: bool
    is_error: bool = True
    description: str = ""
    run_id: str | None = None
    at: datetime | None = None

    @property
    def subject(self) -> str:
        return " ".join([self.asset, self.check, *([self.day.isoformat()] if self.day else [])])


@dataclass(frozen=True)
class Freshness:
    """How Dagster's freshness policy judges an asset: PASS, WARN, FAIL, …, and since when."""

    asset: str
    state: str
    since: datetime


@dataclass(frozen=True)
class Ingest:
    """Per topic the records that wait, and the sum of committed offsets; ``behind`` is None where no broker answers.
    ``failing``: why the worker of a continuous ingest ends again and again, since when; empty while it does not."""

    behind: Mapping[str, int] | None
    committed: int
    holder: str = "nobody ingests"
    problem: str = ""
    failing: str = ""
    failing_since: datetime | None = None


@dataclass(frozen=True)
class Facts:
    """One look. ``stale``: by daily table and date, the level that a stale date was made from. ``problems``: what could
    not be looked at, in words. ``checks`` are those that were evaluated since the last look."""

    now: datetime
    runs: FailedRunsSeen | None = None
    checks: Sequence[CheckResult] | None = None
    freshness: Sequence[Freshness] | None = None
    stale: Mapping[tuple[str, date], int] | None = None
    ingest: Ingest | None = None
    problems: Sequence[str] = field(default_factory=tuple)


def partition_date(partition: str | None) -> date | None:
    """The date of a partition key; None for none, or for one that is no date."""
    try:
        return date.fromisoformat(partition) if partition else None
    except ValueError:
        return None
