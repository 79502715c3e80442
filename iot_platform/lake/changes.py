"""Which dates a change of a registry row bears on. Pure functions: old rows and new rows in, rows with ``changes`` out.

A row keeps the changes that later rows of the history have not covered: ``seq`` (its place in time), the dates
``from_date`` … ``to_date`` (null: open) that read the row differently because of it, and whether a declared attribute
changed (Silver reads those; health reads all).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

Row = Mapping[str, Any]
Change = dict[str, Any]
Ranges = Sequence[tuple[date, date | None]]
ATTRIBUTES = ("contract", "device_type", "site", "zone", "state", "firmware", "cadence_seconds", "source")


def with_changes(
    old: Sequence[Row],
    new: Sequence[Row],
    *,
    key: tuple[str, ...],
    seq: int,
    ranges: Callable[[Row | None, Row], Ranges],
    declared: Callable[[Row | None, Row], bool],
) -> tuple[list[dict[str, Any]], int]:
    """The new rows, each with its changes, and how many rows changed. A row that is no longer given is kept."""
    before = {tuple(row[name] for name in key): row for row in old}
    after = {tuple(row[name] for name in key): row for row in new}
    rows: list[dict[str, Any]] = []
    changed = 0
    for identity in sorted(before.keys() | after.keys()):
        was, row = before.get(identity), after.get(identity)
        if row is None or (was is not None and all(was[name] == row[name] for name in row)):
            rows.append(dict(was or {}))
            continue
        changed += 1
        fresh = [
            {"seq": seq, "from_date": first, "to_date": last, "declared": declared(was, row)}
            for first, last in ranges(was, row)
        ]
        rows.append({**row, "changes": _uncovered(list(was["changes"] or []) if was else [], fresh)})
    return rows, changed


def _uncovered(older: list[Change], fresh: list[Change]) -> list[Change]:
    kept = [change for change in older if not any(_covers(newer, change) for newer in fresh)]
    return kept + fresh


def _covers(newer: Change, older: Change) -> bool:
    return (
        newer["from_date"] <= older["from_date"]
        and (newer["to_date"] is None or (older["to_date"] is not None and older["to_date"] <= newer["to_date"]))
        and (newer["declared"] or not older["declared"])
    )


def device_ranges(was: Row | None, row: Row) -> Ranges:
    """The dates on which a device's health (or a reading's attributes) can differ after the change."""
    if was is None:
        return [(row["installed_at"].date(), _day(row["retired_at"]))]
    if any(was[name] != row[name] for name in ATTRIBUTES):
        ends = (_day(was["retired_at"]), _day(row["retired_at"]))
        last = None if ends[0] is None or ends[1] is None else max(ends[0], ends[1])
        return [(min(was["installed_at"], row["installed_at"]).date(), last)]
    found: list[tuple[date, date | None]] = []
    if was["installed_at"] != row["installed_at"]:
        first, last = sorted((was["installed_at"].date(), row["installed_at"].date()))
        found.append((first, last))
    if was["retired_at"] != row["retired_at"]:
        ends = sorted(moment.date() for moment in (was["retired_at"], row["retired_at"]) if moment is not None)
        found.append((ends[0], ends[-1] if len(ends) == 2 else None))
    return found


def device_declared(was: Row | None, row: Row) -> bool:
    """Whether what Silver takes from the registry changed: an attribute of a declared device."""
    return "declared" in (row["source"], was["source"] if was else "")


def _day(moment: Any) -> date | None:
    return moment.date() if moment is not None else None
