"""``iot rollback``: one date of a table as it was before; nothing makes it again until it is released."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iot_platform.cli.console import JsonOption, emit_json, err, out, parse_day, table
from iot_platform.errors import InputError, ServiceError
from iot_platform.settings import Settings, load_settings

if TYPE_CHECKING:
    from datetime import date

    from iot_platform.lake.date_versions import DateVersion
    from iot_platform.lake.lake import Lake
    from iot_platform.lake.rollback import Rollback

MOST_LISTED = 20


def rollback(
    *,
    name: Annotated[str, typer.Option("--table", help="a table of Silver or Gold, e.g. gold/duration_p95")],
    day: Annotated[str, typer.Option("--date", help="the date (UTC): YYYY-MM-DD, today or yesterday")],
    to: Annotated[
        int | None, typer.Option("--to", help="table version to go back to. Default: before the newest change of the date")
    ] = None,
    reason: Annotated[str, typer.Option(help="why; stands in the commit")] = "",
    list_: Annotated[bool, typer.Option("--list", help="only show the versions of the date")] = False,
    is_release: Annotated[bool, typer.Option("--release", help="let the date be made again, and ask for it")] = False,
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be undone; commit nothing")] = False,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """Put one date of a table back to an earlier version, by a new commit, and hold it so until it is released.

    Example: iot rollback --table gold/duration_p95 --date 2026-11-03 --dry-run

    Then without --dry-run; and once the cause is mended: iot rollback --table … --date … --release
    """
    from iot_platform.lake import Lake

    if list_ + is_release + (is_dry_run or to is not None) > 1:
        raise InputError("--list, --release and --to or --dry-run contradict each other", "Choose one of them.")
    settings = load_settings()
    lake = Lake(settings)
    chosen = parse_day(day, "--date")
    if list_:
        found = listed(lake, name, chosen)
        emit_json(found) if as_json else out.print(versions_shown(name, chosen, found))
    elif is_release:
        released(settings, lake, name, chosen, as_json=as_json)
    else:
        from iot_platform.lake.rollback import roll_back

        rolled_back(settings, roll_back(lake, name, chosen, to, reason=reason, is_dry_run=is_dry_run), as_json=as_json)


def rolled_back(settings: Settings, done: Rollback, *, as_json: bool) -> None:
    """Tell Dagster and show what was undone, or would be."""
    from iot_platform.automation.rollback_events import rollback_metadata, tell

    name, day = done.table, done.day
    if done.version is not None:
        with suppress(ServiceError):  # the table says it all; Dagster's record only shows it
            tell(settings, name, day, f"put back to version {done.restored.version}", rollback_metadata(done))
    if done.is_before_erasure:
        err.print(f"warning: version {done.restored.version} was made before a device was erased, and may still sum it up",
                  markup=False, soft_wrap=True)  # fmt: skip
    if as_json:
        emit_json(as_object(done))
        return
    out.print(comparison_shown(done))
    if done.version is None:
        out.print("Nothing was committed.")
    else:
        out.print(
            f"{name} {day} is as version {done.restored.version} had it (commit {done.version}), and held: what reads it"
            f" follows, nothing makes it again until: iot rollback --table {name} --date {day} --release", soft_wrap=True,
        )  # fmt: skip


def released(settings: Settings, lake: Lake, name: str, day: date, *, as_json: bool) -> None:
    """Release the date and say what happens then."""
    from iot_platform.automation.rollback_events import tell
    from iot_platform.lake.rollback import release

    version = release(lake, name, day)
    with suppress(ServiceError):
        tell(settings, name, day, "released: it is made again", {"table_version": version})
    if as_json:
        emit_json({"table": name, "event_date": day.isoformat(), "version": version, "held": False})
    else:
        out.print(f"{name} {day} is released; Dagster's sensor makes it again, or `iot materialize` does", soft_wrap=True)


def listed(lake: Lake, name: str, day: date) -> list[dict[str, Any]]:
    """The newest versions of the date as plain objects, newest first."""
    from iot_platform.lake.date_versions import is_possible
    from iot_platform.lake.rollback import versions
    from iot_platform.transforms.catalog import TRANSFORMS, code_version

    known = versions(lake, name, day)[:MOST_LISTED]
    code = code_version(TRANSFORMS[name])
    is_held = lake.snapshot(name).is_held(day)
    return [
        {
            "version": one.version,
            "committed_at": one.at.isoformat().replace("+00:00", "Z") if one.at else None,
            "rows": lake.snapshot(name, one.last).rows_by_date.get(day, 0) if possible else one.metadata.get("rows"),
            "level": one.metadata.get("level"),
            "code_version": one.metadata.get("code_version"),
            "is_current_code": one.metadata.get("code_version") == code,
            "made_by": made_by(one),
            "run_id": one.metadata.get("run_id"),
            "is_current": number == 0,
            "is_possible": possible,
            "is_held": number == 0 and is_held,
        }
        for number, one in enumerate(known)
        for possible in [is_possible(lake, name, day, one)]
    ]


def made_by(version: DateVersion) -> str:
    """The engine, or what else changed the date."""
    if back := version.metadata.get("rolled_back"):
        return f"rollback to {back['restored']}" + (f": {back['reason']}" if back.get("reason") else "")
    return version.metadata.get("engine") or version.operation.lower() or "unknown"


def versions_shown(name: str, day: date, found: list[dict[str, Any]]) -> Any:
    rows = [
        (
            one["version"], (one["committed_at"] or "-")[:19].replace("T", " "), one["rows"], one["level"],
            (one["code_version"] or "-")[:12] + ("" if one["is_current_code"] else " (other)"), one["made_by"],
            (one["run_id"] or "-")[:8],
            ("stands now, held" if one["is_held"] else "stands now") if one["is_current"]
            else "possible" if one["is_possible"] else "files removed",
        )
        for one in found
    ]  # fmt: skip
    columns = ("version", "committed (UTC)", "rows", "level", "code", "by", "run", "")
    return table(f"Versions of {name} {day}", columns, rows)


def comparison_shown(done: Rollback) -> Any:
    """What is undone: counts, and some of the keys."""
    found = done.comparison
    rows: list[tuple[Any, ...]] = [
        ("rows", f"{found.rows_before:,}", f"{found.rows_after:,}"),
        ("keys that come back", "", f"{found.added:,}"),
        ("keys that go", f"{found.removed:,}", ""),
        ("keys with other values", f"{found.changed:,}", f"{found.changed:,}"),
    ]
    for one in found.examples:
        key = ", ".join(str(value) for value in one.key.values())
        rows.append((f"{one.change}: {key}", _values(one.before), _values(one.after)))
    title = f"{done.table} {done.day}: version {done.undone.version} gives way to {done.restored.version}"
    return table(title, ("", f"undone: {done.undone.version}", f"restored: {done.restored.version}"), rows)


def _values(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in list(values.items())[:4])


def as_object(done: Rollback) -> dict[str, Any]:
    """The result as ``--json`` prints it."""
    from iot_platform.lake.query import as_json

    return {
        "table": done.table,
        "event_date": done.day.isoformat(),
        "undone_version": done.undone.version,
        "restored_version": done.restored.version,
        "version": done.version,
        "held": done.version is not None,
        "before_erasure": done.is_before_erasure,
        **as_json(done.comparison.as_json()),
    }
