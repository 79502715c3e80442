"""The conditions: each a pure function of the facts, which says what is wrong now. Whether anybody is told is not theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

from iot_platform.alerts.facts import CheckResult, Facts, FailedRun
from iot_platform.alerts.incidents import Finding, Incident, Key
from iot_platform.alerts.memory import Memory
from iot_platform.settings import Settings

CHECK_KINDS = {"quarantine_rate": "quarantine_rate", "late_rate": "late_rate"}  # by check name; the others: failed_check
OF_CHECKS = frozenset({"failed_check", *CHECK_KINDS.values()})
LEFT_TO_FRESHNESS = "dates_are_fresh"  # warns at once of what is an incident here once it lasts
NAMED = 5


@dataclass(frozen=True)
class Bounds:
    """From when on something is an incident."""

    warnings: Literal["none", "rates", "all"]
    stale: timedelta
    stuck: timedelta
    lag_records: int
    lag: timedelta
    calm: timedelta
    forget: timedelta

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        return cls(
            settings.alert_warnings,
            timedelta(minutes=settings.alert_stale_minutes),
            timedelta(minutes=settings.alert_stuck_minutes),
            settings.alert_lag_records,
            timedelta(minutes=settings.alert_lag_minutes),
            timedelta(minutes=settings.alert_calm_minutes),
            timedelta(days=settings.alert_forget_days),
        )


class Sight(NamedTuple):
    """Everything that is wrong now, what was seen to be well, and the kinds that could not be looked at."""

    findings: list[Finding]
    resolved: set[Key]
    unknown: set[str]


def look(facts: Facts, memory: Memory, known: Sequence[Incident], bounds: Bounds) -> Sight:
    """Judge the facts; ``known``: the incidents of the last look."""
    findings = [
        *failed_runs(facts.runs.unmade if facts.runs else ()),
        *failed_checks(facts.checks or (), bounds, facts.now),
        *stale_assets(facts, bounds),
        *stale_dates(facts, memory, bounds),
        *stuck_ingest(facts, memory, bounds),
        *lags(facts, memory, bounds),
    ]
    unknown: set[str] = set()
    if facts.runs is None:
        unknown.add("run_failure")
    if facts.checks is None:
        unknown |= OF_CHECKS
    if facts.freshness is None or facts.stale is None:
        unknown.add("stale_asset")
    if facts.ingest is None or facts.ingest.behind is None:
        unknown |= {"stuck_ingest", "lag"}
    over = facts.runs.over if facts.runs else ()
    resolved = {one.key for one in known if one.kind == "run_failure" and one.run_id in over}
    resolved |= {(_kind(result), result.subject) for result in facts.checks or ()}
    return Sight(findings, resolved - {finding.key for finding in findings}, unknown)


def failed_runs(runs: Iterable[FailedRun]) -> list[Finding]:
    """One finding a step that failed, for all its dates, until they are made; what a failed check explains is left out."""
    by_step: dict[str, list[FailedRun]] = {}
    for run in runs:
        if not run.is_explained:
            by_step.setdefault(run.what, []).append(run)
    found: list[Finding] = []
    for what, failed in by_step.items():
        newest = max(failed, key=lambda run: run.ended_at)
        days = {day for run in failed for day in run.days}
        found.append(
            Finding(
                "run_failure", what, f"{what} failed{_of(days)}: {newest.error}",
                "The sensors try it again by themselves; if it stays, open the run and mend the cause it names.",
                min(run.ended_at for run in failed), run_id=newest.run_id, place=f"/runs/{newest.run_id}",
                day=min(days) if len(days) == 1 else None, failed_at=newest.ended_at,
            )
        )  # fmt: skip
    return found


def failed_checks(results: Iterable[CheckResult], bounds: Bounds, now: datetime) -> list[Finding]:
    """One finding a check and date whose newest result, of those that came since the last look, failed."""
    newest = {result.subject: result for result in results if result.check != LEFT_TO_FRESHNESS}
    return [
        _failed_check(result, now)
        for result in newest.values()
        if not result.passed and (result.is_error or _warnings_count(result.check, bounds))
    ]


def _kind(result: CheckResult) -> str:
    return CHECK_KINDS.get(result.check, "failed_check")


def _warnings_count(check: str, bounds: Bounds) -> bool:
    return bounds.warnings == "all" or (bounds.warnings == "rates" and check in CHECK_KINDS)


def _failed_check(result: CheckResult, now: datetime) -> Finding:
    kind = _kind(result)
    date_of = f" of {result.day}" if result.day else ""
    said = result.description or "failed"
    todo = {
        "quarantine_rate": "See what came: `iot query \"select reason, detail from bronze_quarantine\"`; mend the sender.",
        "late_rate": "Look which devices or partitions send late; what came late is counted, nothing is lost.",
    }.get(kind, "Open the check: the offending rows stand in its metadata.")
    return Finding(
        kind, result.subject, f"{result.asset}{date_of}: {result.check}: {said}", todo, result.at or now,
        "ERROR" if result.is_error else "WARN", result.day, result.run_id, f"/assets/{result.asset}?view=checks",
    )  # fmt: skip


def stale_assets(facts: Facts, bounds: Bounds) -> list[Finding]:
    """Assets whose freshness policy fails (or warns, if all warnings count)."""
    wanted = {"FAIL", "WARN"} if bounds.warnings == "all" else {"FAIL"}
    return [
        Finding(
            "stale_asset", one.asset, f"{one.asset} is not fresh: nothing new since its policy's window",
            "Look at its last runs, and whether its source sends; `iot status` shows the lag.", one.since,
            "ERROR" if one.state == "FAIL" else "WARN", place=f"/assets/{one.asset}",
        )
        for one in facts.freshness or ()
        if one.state in wanted
    ]  # fmt: skip


def stale_dates(facts: Facts, memory: Memory, bounds: Bounds) -> list[Finding]:
    """One finding a table some dates of which stay older than their inputs, while nobody makes them."""
    lasting: dict[str, list[tuple[datetime, date]]] = {}
    for table, day in facts.stale or {}:
        since = memory.since(f"stale/{table}/{day}")
        if since is not None and facts.now - since >= bounds.stale:
            lasting.setdefault(table, []).append((since, day))
    return [
        Finding(
            "stale_asset", f"{table} by date",
            f"{table}: {len(dates)} date(s) older than their inputs for over {_lasted(bounds.stale)}"
            f"{_of(day for _, day in dates)}",
            "See why in the last tick of the sensor `stale_dates`, or make them by hand: `iot materialize --from --to`.",
            min(since for since, _ in dates), place=f"/assets/{table}", day=dates[0][1] if len(dates) == 1 else None,
        )
        for table, dates in lasting.items()
    ]  # fmt: skip


def stuck_ingest(facts: Facts, memory: Memory, bounds: Bounds) -> list[Finding]:
    """Records wait and the committed offsets do not move, a continuous ingest ends again and again, or no broker answers."""
    ingest = facts.ingest
    found: list[Finding] = []
    since = memory.since("committed")
    if ingest and ingest.behind is not None and since and facts.now - since >= bounds.stuck:
        found.append(
            Finding(
                "stuck_ingest", "ingest",
                f"{sum(ingest.behind.values()):,} records wait and nothing was committed for over {_lasted(bounds.stuck)}"
                f" ({ingest.holder})",
                "Look at the newest drain run and its log; end a process that hangs: the next one takes over from it.",
                since, place="/assets/bronze/readings",
            )
        )  # fmt: skip
    if ingest and ingest.failing and ingest.failing_since:
        found.append(
            Finding(
                "stuck_ingest", "service", f"the continuous ingest does not get going: {ingest.failing}",
                "`iot status` shows its last error. It is tried again at least every minute, and drains take its place.",
                ingest.failing_since, place="/assets/bronze/readings",
            )
        )  # fmt: skip
    silent = memory.since("broker")
    if ingest and ingest.behind is None and silent and facts.now - silent >= bounds.stuck:
        found.append(
            Finding(
                "stuck_ingest", "kafka", f"Kafka does not answer for over {_lasted(bounds.stuck)}: {ingest.problem}",
                "Start the broker (`iot services up`), or correct IOT_KAFKA_BOOTSTRAP.", silent,
            )
        )
    return found


def lags(facts: Facts, memory: Memory, bounds: Bounds) -> list[Finding]:
    """Topics of which more records wait than may, for longer than they may."""
    found: list[Finding] = []
    for topic, records in ((facts.ingest.behind or {}) if facts.ingest else {}).items():
        since = memory.since(f"lag/{topic}")
        if since is not None and facts.now - since >= bounds.lag:
            found.append(
                Finding(
                    "lag", topic,
                    f"{topic}: {records:,} records wait; more than {bounds.lag_records:,} for over {_lasted(bounds.lag)}",
                    "More comes than is taken in: raise IOT_MAX_OFFSETS_PER_TRIGGER, or run `iot ingest --continuous`.",
                    since, place=f"/assets/kafka/{topic}",
                )
            )  # fmt: skip
    return found


def _of(days: Iterable[date]) -> str:
    """The dates in words, oldest first: `` of 2026-03-10, 2026-03-11 and 3 more``."""
    listed = [day.isoformat() for day in sorted(set(days))]
    if not listed:
        return ""
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return f" of {', '.join(listed[:NAMED])}{more}"


def _lasted(time: timedelta) -> str:
    return f"{time.total_seconds() / 60:g} min"
