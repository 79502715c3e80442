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
Spans = Sequence[tuple[date, date | None, bool]]
"""First date, last date (None: open), and whether what a declared row says changed there."""

ATTRIBUTES = ("contract", "device_type", "site", "zone", "state", "firmware", "cadence_seconds", "source")


def with_changes(
    old: Sequence[Row],
    new: Sequence[Row],
    *,
    key: tuple[str, ...],
    seq: int,
    spans: Callable[[Row | None, Row], Spans],
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
            {"seq": seq, "from_date": first, "to_date": last, "declared": declared}
            for first, last, declared in spans(was, row)
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


def device_spans(was: Row | None, row: Row) -> Spans:
    """The dates on which a device's health, or the attributes that its readings take from a declaration, can differ."""
    active = [one for one in (was, row) if one is not None]
    found: list[tuple[date, date | None, bool]]
    if was is None or any(was[name] != row[name] for name in ATTRIBUTES):
        found = [(*_active(active), False)]
        declared = [one for one in active if one["source"] == "declared"]
        if declared:
            found.append((*_active(declared), True))
        return found if found[0][:2] != found[-1][:2] else found[-1:]
    is_declared = row["source"] == "declared"
    found = []
    if was["installed_at"] != row["installed_at"]:
        first, last = sorted((was["installed_at"].date(), row["installed_at"].date()))
        found.append((first, last, is_declared))
    if was["retired_at"] != row["retired_at"]:
        ends = sorted(moment.date() for moment in (was["retired_at"], row["retired_at"]) if moment is not None)
        found.append((ends[0], ends[-1] if len(ends) == 2 else None, is_declared))
    return found


def _active(rows: Sequence[Row]) -> tuple[date, date | None]:
    """From the earliest installation to the latest retirement, open when one of them is."""
    ends = [row["retired_at"] for row in rows]
    last = None if any(end is None for end in ends) else max(end.date() for end in ends)
    return min(row["installed_at"].date() for row in rows), last
