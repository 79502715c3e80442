"""A change of a registry row names the dates that read the row differently because of it, and no others."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from iot_platform.lake.changes import device_spans, with_changes


def device(installed: int = 1, retired: int | None = None, source: str = "inferred", **other: Any) -> dict[str, Any]:
    return {
        "device_id": "d", "contract": "sensor_reading", "device_type": None, "site": None, "zone": None, "state": None,
        "firmware": None, "cadence_seconds": 60.0, "installed_at": datetime(2026, 3, installed, 5, tzinfo=UTC),
        "retired_at": datetime(2026, 3, retired, 5, tzinfo=UTC) if retired else None, "source": source,
    } | other  # fmt: skip


def change(old: list[dict[str, Any]], new: list[dict[str, Any]], seq: int) -> tuple[list[dict[str, Any]], int]:
    return with_changes(old, new, key=("device_id",), seq=seq, spans=device_spans)


def spans(rows: list[dict[str, Any]]) -> list[tuple[int, int, int | None]]:
    return [(c["seq"], c["from_date"].day, c["to_date"].day if c["to_date"] else None) for c in rows[0]["changes"]]


def test_a_new_device_bears_on_the_dates_from_installed_to_retired() -> None:
    assert spans(change([], [device(installed=3)], seq=1)[0]) == [(1, 3, None)]
    assert spans(change([], [device(installed=3, retired=9)], seq=1)[0]) == [(1, 3, 9)]


def test_an_unchanged_row_keeps_its_changes_and_counts_as_unchanged() -> None:
    rows, _ = change([], [device()], seq=1)
    again, changed = change(rows, [device()], seq=2)
    assert (again, changed) == (rows, 0)


def test_a_later_retirement_bears_only_on_the_dates_between() -> None:
    rows, _ = change([], [device(installed=1, retired=5)], seq=1)
    rows, changed = change(rows, [device(installed=1, retired=8)], seq=2)
    assert changed == 1
    assert spans(rows) == [(1, 1, 5), (2, 5, 8)]


def test_a_retirement_lifted_bears_on_all_dates_after_it() -> None:
    rows, _ = change([], [device(retired=5)], seq=1)
    assert spans(change(rows, [device()], seq=2)[0]) == [(1, 1, 5), (2, 5, None)]


def test_an_earlier_first_reading_bears_only_on_the_dates_between() -> None:
    rows, _ = change([], [device(installed=6)], seq=1)
    assert spans(change(rows, [device(installed=4)], seq=2)[0]) == [(1, 6, None), (2, 4, 6)]


def test_a_changed_attribute_bears_on_every_active_date_and_covers_older_changes() -> None:
    rows, _ = change([], [device(installed=6)], seq=1)
    assert spans(change(rows, [device(installed=4, site="hall")], seq=2)[0]) == [(2, 4, None)]


def test_a_change_that_silver_reads_is_not_covered_by_one_that_it_does_not() -> None:
    rows, _ = change([], [device(source="declared")], seq=1)
    older = rows[0]["changes"]
    rows[0]["source"] = "inferred"  # as if a declaration had been withdrawn before
    again, _ = change(rows, [device(cadence_seconds=30.0)], seq=2)
    assert older[0] in again[0]["changes"]
    assert [c["declared"] for c in again[0]["changes"]] == [True, False]


def test_declaring_an_inferred_device_bears_on_silver_only_where_it_is_declared() -> None:
    rows, _ = change([], [device(installed=1)], seq=1)
    rows, _ = change(rows, [device(installed=4, source="declared", site="hall")], seq=2)
    assert [(c["from_date"].day, c["declared"]) for c in rows[0]["changes"]] == [(1, False), (4, True)]


def test_a_row_that_is_no_longer_given_is_kept() -> None:
    rows, _ = change([], [device()], seq=1)
    assert change(rows, [], seq=2) == (rows, 0)


def test_dates_are_utc_dates() -> None:
    rows, _ = change([], [device(installed=2)], seq=1)
    assert rows[0]["changes"][0]["from_date"] == date(2026, 3, 2)
