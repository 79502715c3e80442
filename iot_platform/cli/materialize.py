"""``iot materialize``: assets of a range of dates, in one Dagster run. The run itself stands in ``automation.run``.

What belongs here: which dates a command means, and how its result is told. When to use which is in ``docs/rebuild.md``.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.console import (
    FromOption,
    JsonOption,
    Step,
    ToOption,
    emit_json,
    err,
    out,
    parse_day,
    parse_range,
    step,
    table,
)
from iot_platform.errors import InputError, PlatformError
from iot_platform.settings import Settings, load_settings

NO_DATA = "no readings of these dates have come"

if TYPE_CHECKING:
    from iot_platform.automation.run_events import RunResult


def materialize(
    *,
    first: Annotated[str | None, FromOption] = None,
    last: Annotated[str | None, ToOption] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(help="layer (gold), table (gold/sensor_health) or Dagster's selection; again for more. Default: all"),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="from this date (UTC) to the newest that has data, everything again, marts included")
    ] = None,
    outdated: Annotated[
        bool, typer.Option("--outdated", help="only what other code made (with --since: from then on), and what reads it")
    ] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Make the tables of these dates again, with their checks; without dates: only what is older than its inputs.

    Example: iot materialize --from 2026-11-01 --to 2026-11-07 --select gold/sensor_health

    After a transform changed: iot materialize --outdated
    """
    from iot_platform.automation.run import LAYERS

    settings = load_settings()
    days, force = chosen(settings, parse_range(first, last), since, outdated=outdated)
    wanted = tuple(select or LAYERS)
    with step(f"Materialize {', '.join(wanted)}") as line:
        result = None if outdated and days is None else run(settings, days, wanted, line, force=force)
        if select and result is None:
            _check_selection(settings, select)
    if as_json:
        emit_json(_as_object(result))
    elif result is None:
        out.print("everything is as new as what it is made from" + (" and as its code" if outdated else ""))
    else:
        out.print(made_shown(result))
        if days and not holds_data(settings, days):
            out.print(NO_DATA)
    if result is not None:
        warn(result)
        raise_failures(result)


def chosen(
    settings: Settings, days: tuple[date, date] | None, since: str | None, *, outdated: bool
) -> tuple[tuple[date, date] | None, bool]:
    """The dates that the options mean (None: those that are stale), and whether they are made whatever they are made from.

    Raises ``InputError`` for options that contradict each other, and for a ``since`` after all data.
    """
    if days and (since or outdated):
        raise InputError(
            "--from and --to name the dates already", f"Leave out {'--since' if since else '--outdated'}, or them."
        )
    start = parse_day(since, "--since") if since else date.min
    if outdated:
        return outdated_range(settings, start), False
    if since is None:
        return days, days is not None
    from iot_platform.lake import Lake
    from iot_platform.lake.outdated import newest_date

    newest = newest_date(Lake(settings))
    if newest is None or newest < start:
        todo = f"The newest date is {newest}." if newest else "Run `iot ingest`."
        raise InputError(f"there is no data since {start}", todo)
    return (start, newest), True


def outdated_range(settings: Settings, since: date) -> tuple[date, date] | None:
    """From the first to the last date that other code made or that is older than its inputs; not before ``since``."""
    from iot_platform.lake import Lake
    from iot_platform.lake.outdated import outdated

    stale = stale_range(settings)  # takes in new declarations and devices first
    days = [day for listed in outdated(Lake(settings), since).values() for day in listed]
    if stale and stale[1] >= since:
        days += [max(stale[0], since), stale[1]]
    return (min(days), max(days)) if days else None


def run(
    settings: Settings, days: tuple[date, date] | None, select: tuple[str, ...], line: Step, *, force: bool
) -> RunResult | None:
    """One run over the dates; without dates over those that are stale, None when there are none and the marts are there."""
    from iot_platform.automation.run import run_assets
    from iot_platform.automation.run_events import StepEnd

    days = days or stale_range(settings) or unbuilt_range(settings, select)
    if days is None:
        return None
    done = 0

    def progress(event: Any) -> None:
        nonlocal done
        if isinstance(event, StepEnd):
            done += 1
        line.doing(f"{done} steps done, {getattr(event, 'asset', getattr(event, 'step', ''))}")

    result = run_assets(settings, *days, select=select, force=force, on_progress=progress)
    tables = len({made.asset for made in result.made})
    if select != ("bronze",):  # a drain brings what waits, of whatever dates
        line.say(f"{days[0]} … {days[1]}")
    line.say(f"{tables} assets", f"{len(result.checks)} checks")
    return result


def stale_range(settings: Settings) -> tuple[date, date] | None:
    """From the first to the last date that is older than its inputs; the registries are brought up to date first."""
    from datetime import UTC, datetime

    from iot_platform.engines import open_engine
    from iot_platform.engines.registry import registry_is_stale, sync_registry
    from iot_platform.lake import Lake
    from iot_platform.lake.levels import Levels

    lake = Lake(settings)
    if registry_is_stale(lake):
        engine = open_engine(settings)
        try:
            sync_registry(lake, engine, now=datetime.now(UTC))
        finally:
            engine.close()
    stale = {day for days in Levels(lake).stale().values() for day in days}
    return (min(stale), max(stale)) if stale else None


def unbuilt_range(settings: Settings, select: tuple[str, ...]) -> tuple[date, date] | None:
    """All dates of Gold when marts are wanted and were never built: nothing in the lake is stale for want of them."""
    from iot_platform.automation.selection import DBT_LAYERS
    from iot_platform.lake import Lake

    if settings.marts.exists() or not {word.split("/")[0] for word in select} & set(DBT_LAYERS):
        return None
    days = Lake(settings).snapshot("gold/sensor_health").rows_by_date
    return (min(days), max(days)) if days else None


def _check_selection(settings: Settings, select: list[str]) -> None:
    """``InputError`` for a word that selects nothing: where nothing is to be made, no run says so."""
    from iot_platform.automation.selection import selected
    from iot_platform.definitions import build_defs

    selected(build_defs(settings), select)


def holds_data(settings: Settings, days: tuple[date, date]) -> bool:
    """Whether any reading of these dates ever came."""
    from iot_platform.lake import Lake

    lake = Lake(settings)
    if not lake.exists("bronze/readings"):
        return False
    return any(days[0] <= day <= days[1] for day in lake.snapshot("bronze/readings").rows_by_date)


def made_shown(result: RunResult) -> Any:
    """Rows made per asset, over all dates of the run."""
    rows: Counter[str] = Counter()
    dates: Counter[str] = Counter()
    for made in result.made:
        if made.held:
            continue
        rows[made.asset] += made.rows or 0
        dates[made.asset] += made.day is not None
    return table("", ("asset", "dates", "rows"), [(name, dates[name] or None, rows[name]) for name in rows])


def warn(result: RunResult) -> None:
    """A line for each date that a rollback holds, and for each check that failed and stopped nothing."""
    from iot_platform.checks.held import HELD_CHECK

    held = {made.asset: made.held for made in result.made if made.held}
    for made in result.made:
        if made.held:
            err.print(f"warning: {made.held}", markup=False)
    for failed in result.failed_checks:
        if failed.check == HELD_CHECK and failed.asset in held:
            continue  # said already
        if result.is_success or failed.severity != "ERROR":
            err.print(f"warning: {failed.check} of {failed.asset} {failed.day or ''}: {failed.description}", markup=False)


def raise_failures(result: RunResult) -> None:
    """A failed step or blocking check becomes the error that ends the command."""
    if result.is_success:
        return
    blocking = [check for check in result.failed_checks if check.severity == "ERROR"]
    told = [f"{check.check} of {check.asset} {check.day or ''}: {check.description}" for check in blocking]
    told = told or [f"{one.step}: {one.error}" for one in result.errors]
    raise PlatformError("; ".join(told[:3]) or "the run failed", f"All of it: {result.log}")


def _as_object(result: RunResult | None) -> dict[str, Any]:
    if result is None:
        return {"run_id": None, "success": True, "materialized": [], "held": [], "checks": []}
    return {
        "run_id": result.run_id,
        "success": result.is_success,
        "materialized": [
            {"asset": made.asset, "event_date": made.day.isoformat() if made.day else None, "rows": made.rows}
            for made in result.made
            if not made.held
        ],
        "held": [{"asset": made.asset, "event_date": str(made.day)} for made in result.made if made.held],
        "checks": [
            {
                "asset": check.asset, "check": check.check, "event_date": check.day.isoformat() if check.day else None,
                "passed": check.passed, "severity": check.severity, "description": check.description,
            }
            for check in result.checks
        ],
    }  # fmt: skip
