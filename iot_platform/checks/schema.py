"""The schema check: the Delta schema of a table against its contract, and against what it was when it was last looked at.

A column that is missing or has another type than declared is an error; one that is there undeclared, and any change since
the last look, is a warning: it is told once, and is what the table is from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pyarrow as pa

from iot_platform.checks.outcome import Outcome, shown
from iot_platform.contracts.arrow import arrow_schema
from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot

SCHEMA_CHECK = "schema_is_as_declared"
VERSION = "table_version"  # the metadata by which the next look knows what this one saw
Types = Mapping[str, str]


def schema_holds(lake: Lake, table: str, seen: int | None) -> Outcome:
    """The schema of the newest version; ``seen``: the version of the last look (None: the version before is taken)."""
    snapshot = lake.snapshot(table)
    version = snapshot.version
    now = types_of(snapshot)
    declared = _types(arrow_schema(snapshot.contract))
    apart = differences(declared, now, "contract")
    before = version - 1 if seen is None or seen > version else seen
    moved = differences(earlier, now, f"version {before}") if (earlier := _earlier(lake, table, before, version)) else []
    wrong = [row for row in apart if row["change"] != "added"]
    offending = [*apart, *moved]
    told = "; ".join(f"{row['column']} {row['change']} against {row['against']}" for row in offending[:5])
    return Outcome(
        not offending,
        told,
        {VERSION: version, "columns": len(now), **shown(offending)},
        figure=len({row["column"] for row in offending}),
        unit="columns",
        warn_at=1.0,
        severity=dg.AssetCheckSeverity.ERROR if wrong or not offending else dg.AssetCheckSeverity.WARN,
    )


def types_of(snapshot: Snapshot) -> Types:
    """Column names and types of a table version, as its log declares them."""
    return _types(pa.schema(snapshot.delta.schema().to_arrow()))


def differences(before: Types, now: Types, against: str) -> list[dict[str, Any]]:
    """What was added, dropped or retyped, one row a column."""
    found: list[dict[str, Any]] = []
    for name in (*before, *(name for name in now if name not in before)):
        was, is_ = before.get(name), now.get(name)
        if was != is_:
            change = "added" if was is None else "dropped" if is_ is None else "retyped"
            found.append({"column": name, "change": change, "against": against, "was": was or "", "is": is_ or ""})
    return found


def _earlier(lake: Lake, table: str, before: int, version: int) -> Types | None:
    if not 0 <= before < version:
        return None
    try:
        return types_of(lake.snapshot(table, before))
    except LakeError:  # its log was cleaned away, or the table was made anew
        return None


def _types(schema: pa.Schema) -> Types:
    # Not whether nulls are allowed: Delta's readers and writers differ in it, and the contract check sees nulls.
    return {field.name: _plain(field.type) for field in schema}


def _plain(kind: pa.DataType) -> str:
    """A type's name, the same whichever of Arrow's variants a library chooses for it."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list<{_plain(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {_plain(field.type)}' for field in kind)}>"
    return str(kind).replace("large_", "").replace("_view", "")
