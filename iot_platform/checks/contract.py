"""The contract check: every row that landed for a date holds to the table's declaration; and the keys of the date's rows."""

from __future__ import annotations

from datetime import date

import dagster as dg

from iot_platform.checks.inspection import Inspection, answered
from iot_platform.checks.outcome import Outcome, found, shown
from iot_platform.contracts.duckdb import select_files
from iot_platform.errors import DataError
from iot_platform.lake.snapshot import Snapshot

CONTRACT_CHECK = "contract"
UNIQUE_CHECK = "keys_are_unique"
MOST_SHOWN = 1000
BATCH_ROWS = 131_072


def contract_holds(inspection: Inspection, table: str, day: date | None) -> Outcome:
    """Whether the rows of one date (None: of the whole table) hold: types, nulls, bounds, closed lists."""
    from iot_platform.contracts.pandera import describe_violations, offending_rows, violations  # slow to import

    snapshot, source = _rows(inspection, table, day)
    rows = snapshot.rows if day is None else snapshot.rows_by_date.get(day, 0)
    with inspection.reading(table) as connection:
        broken = violations(snapshot.contract, connection.sql(source).to_arrow_reader(BATCH_ROWS))
    if broken is None:
        return found([], "", unit="values", rows=rows)
    return found(offending_rows(broken), describe_violations(broken), unit="values", rows=rows)


def keys_are_unique(inspection: Inspection, table: str, day: date | None) -> Outcome:
    """Whether no key stands twice in the rows of one date (None: of the whole table)."""
    snapshot, source = _rows(inspection, table, day)
    keys = ", ".join(f'"{key}"' for key in snapshot.contract.keys)
    with inspection.reading(table) as connection:
        repeated = answered(
            connection,
            f"select {keys}, count(*) as times from ({source}) group by {keys} having count(*) > 1"
            f" order by times desc, {keys}",
            MOST_SHOWN,
        )
    told = f"{len(repeated)}{' and more' if len(repeated) == MOST_SHOWN else ''} key(s) stand more than once: {keys}"
    return found(repeated, told, unit="keys")


def _rows(inspection: Inspection, table: str, day: date | None) -> tuple[Snapshot, str]:
    snapshot = inspection.lake.snapshot(table)
    return snapshot, select_files(snapshot.contract, snapshot.files(None if day is None else [day]))


def broken_before_commit(error: DataError) -> Outcome:
    """The outcome for a date whose rows broke the contract when they were made: nothing of it landed. The rows are shown."""
    metadata = {"error": dg.MetadataValue.text(error.what), "what_now": error.todo, "committed": False}
    # What it was that an error says in words alone cannot be counted: it is one at least.
    return Outcome(
        False, error.what, {**metadata, **shown(error.offending)},
        figure=float(error.count or 1), unit="values", fail_at=1.0,
    )  # fmt: skip


def held_before_commit(rows: int) -> Outcome:
    """The outcome for a date that was committed after its rows were held against the contract."""
    return Outcome(True, "", {"rows": rows, "checked": "before the commit"}, figure=0.0, unit="values", fail_at=1.0)
