"""Runs a check's SQL over the tables it names, one date of those that are partitioned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from iot_platform.contracts.duckdb import select_files
from iot_platform.lake.lake import Lake


def rows(lake: Lake, day: date, sql: str, tables: Iterable[str]) -> list[Mapping[str, Any]]:
    """The answer as dictionaries. Tables are seen by their view names, at their versions of this moment."""
    with lake.storage.connect() as connection:
        for table in tables:
            snapshot = lake.snapshot(table)
            files = snapshot.files([day] if snapshot.contract.partition else None)
            connection.execute(f"create view {snapshot.contract.view} as {select_files(snapshot.contract, files)}")
        answer = connection.execute(sql)
        names = [column[0] for column in answer.description or ()]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
