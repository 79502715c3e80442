"""The contract check: every row that landed for a date holds to the table's declaration, and its keys are unique."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg

from iot_platform.checks.outcome import Outcome, found
from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import TableContract
from iot_platform.errors import DataError
from iot_platform.lake.lake import Lake

CONTRACT_CHECK = "contract"
BATCH_ROWS = 131_072


def contract_holds(lake: Lake, table: str, day: date | None) -> Outcome:
    """Whether the rows of one date (None: of the whole table) hold: types, nulls, bounds, closed lists, unique keys."""
    from iot_platform.contracts.pandera import describe_violations, violations  # slow to import

    snapshot = lake.snapshot(table)
    contract = snapshot.contract
    source = select_files(contract, snapshot.files(None if day is None else [day]))
    rows = snapshot.rows if day is None else snapshot.rows_by_date.get(day, 0)
    with lake.reading(table) as connection:
        broken = violations(contract, connection.sql(source).to_arrow_reader(BATCH_ROWS))
        if broken is not None:
            cases: list[dict[str, Any]] = broken.select("column", "check", "failure_case").to_dicts()
            return found(cases, describe_violations(broken), rows=rows, violations=len(cases))
        return found(_repeated(connection, contract, source), "the key is not unique", rows=rows)


def _repeated(connection: Any, contract: TableContract, source: str) -> list[dict[str, Any]]:
    keys = ", ".join(f'"{key}"' for key in contract.keys)
    answer = connection.execute(
        f"select {keys}, count(*) as times from ({source}) group by {keys} having count(*) > 1 order by times desc limit 11"
    )
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def broken_before_commit(error: DataError) -> Outcome:
    """The outcome for a date whose rows broke the contract when they were made: nothing of it landed."""
    return Outcome(
        False, error.what, {"error": dg.MetadataValue.text(error.what), "what_now": error.todo, "committed": False}
    )
