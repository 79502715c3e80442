"""``iot check``: the checks of a range of dates, for people and for CI. The run stands in ``automation.check_run``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.console import FromOption, JsonOption, ToOption, emit_json, err, out, parse_range, step, table
from iot_platform.cli.materialize import NO_DATA, holds_data
from iot_platform.errors import InputError, PlatformError
from iot_platform.settings import load_settings

if TYPE_CHECKING:
    from iot_platform.automation.run_events import Checked, RunResult

NO_MARTS = "no marts are built yet: the dbt tests were left out (iot materialize --select marts)"


class FailOn(StrEnum):
    """From which severity on a failed check makes the command fail."""

    WARN = "warn"
    ERROR = "error"


def check(
    first: Annotated[str | None, FromOption] = None,
    last: Annotated[str | None, ToOption] = None,
    *,
    select: Annotated[
        list[str] | None,
        typer.Option(help="check (late_rate), table (silver/readings) or layer (gold); again for more. Default: all"),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="write the results there as JUnit XML", dir_okay=False)] = None,
    fail_on: Annotated[FailOn, typer.Option(help="which failed checks make the exit code 1")] = FailOn.ERROR,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Run the checks of these dates, and make nothing; without dates: of yesterday. Exit code 1 when one failed.

    Example: iot check --from 2026-11-01 --to 2026-11-07 --junit checks.xml --fail-on warn
    """
    from iot_platform.automation.check_run import run_checks

    settings = load_settings()
    began = datetime.now(UTC)
    yesterday = (began - timedelta(days=1)).date()
    days = parse_range(first, last) or (yesterday, yesterday)
    has_data = holds_data(settings, days)
    if junit and not junit.absolute().parent.is_dir():
        raise InputError(f"{junit}: there is no folder {junit.absolute().parent}", "Make it, or name another.")
    with step("Check") as line:
        run = run_checks(settings, *days, select or (), on_progress=lambda event: line.doing(_said(event)))
        line.say(f"{days[0]} … {days[1]}", f"{len(run.result.checks)} results")
    if junit:
        _write(junit, run.result, fail_on, began)
    if as_json:
        emit_json(as_object(run.result, days[0].isoformat(), days[1].isoformat(), has_data=has_data))
    else:
        out.print(shown(run.result.checks))
        if not has_data:
            out.print(NO_DATA)
        if run.is_without_marts:
            out.print(NO_MARTS)
    _tell(run.result, fail_on)


def _said(event: Any) -> str:
    return f"{getattr(event, 'asset', getattr(event, 'step', ''))} {getattr(event, 'check', '')}".strip()


def _write(path: Path, result: RunResult, fail_on: FailOn, began: datetime) -> None:
    from iot_platform.checks.junit import junit_xml

    try:
        path.write_bytes(junit_xml(result, warnings_fail=fail_on is FailOn.WARN, began=began))
    except OSError as error:
        raise PlatformError(f"{path} cannot be written: {error.strerror}", "Choose another place.") from None


def shown(checks: Iterable[Checked], title: str = "") -> Any:
    """One line a check, over all its tables and dates; the tests of the dbt project, many and small, as one."""
    from iot_platform.automation.selection import DBT_LAYERS

    counts: dict[str, Counter[str]] = {}
    told: dict[str, str] = {}
    for one in checks:
        name = "dbt tests" if one.asset.split("/")[0] in DBT_LAYERS else one.check
        verdict = _verdict(one)
        counts.setdefault(name, Counter())[verdict] += 1
        if verdict in ("warned", "failed"):
            told[name] = f"{one.asset} {one.day or ''}: {one.description}"
    verdicts = ("passed", "not judged", "warned", "failed")
    rows = [(name, *(found[verdict] for verdict in verdicts), told.get(name)) for name, found in sorted(counts.items())]
    return table(title, ("check", *verdicts, "the last of these"), rows)


def _verdict(one: Checked) -> str:
    if one.passed:
        return "passed" if one.is_judged else "not judged"
    return "failed" if one.severity == "ERROR" else "warned"


def as_object(result: RunResult, first: str, last: str, *, has_data: bool) -> dict[str, Any]:
    """What ``--json`` prints."""
    verdicts = Counter(_verdict(one) for one in result.checks)
    return {
        "run_id": result.run_id,
        "from": first,
        "to": last,
        "has_data": has_data,
        **{name.replace(" ", "_"): verdicts[name] for name in ("passed", "not judged", "warned", "failed")},
        "errors": [{"step": one.step, "error": one.error} for one in result.untold_errors],
        "checks": [
            {
                "asset": one.asset, "check": one.check, "event_date": one.day.isoformat() if one.day else None,
                "passed": one.passed, "severity": one.severity, "figure": one.figure, "unit": one.unit or None,
                "description": one.description,
            }
            for one in result.checks
        ],
    }  # fmt: skip


def _tell(result: RunResult, fail_on: FailOn) -> None:
    """Warnings as lines; what counts as a failure as the error that ends the command."""
    failed = [one for one in result.failed_checks if fail_on is FailOn.WARN or one.severity == "ERROR"]
    for one in result.failed_checks:
        if one not in failed:
            err.print(f"warning: {one.check} of {one.asset} {one.day or ''}: {one.description}", markup=False)
    told = [f"{one.check} of {one.asset} {one.day or ''}: {one.description}" for one in failed]
    told += [f"{one.step}: {one.error}" for one in result.untold_errors]
    if told:
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        raise PlatformError(f"{len(told)} check(s) failed: {'; '.join(told[:3])}{more}", f"All of it: {result.log}")
