"""A column that was added, dropped or retyped is told: against the contract, and against what was seen last."""

from __future__ import annotations

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from iot_platform.checks.schema import differences, schema_holds
from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import TABLES
from iot_platform_tests.assets.small_lake import SmallLake

TABLE = "gold/duration_p95"


def overwrite(small: SmallLake, schema: pa.Schema) -> None:
    small.lake.ensure(TABLE)
    write_deltalake(small.lake.path(TABLE), schema.empty_table(), mode="overwrite", schema_mode="overwrite")


@pytest.mark.parametrize("table", TABLES)
def test_a_table_as_the_lake_makes_it_is_as_declared(small: SmallLake, table: str) -> None:
    assert schema_holds(small.lake, table, None).passed


def test_a_dropped_column_is_an_error_and_an_added_one_a_warning(small: SmallLake) -> None:
    declared = arrow_schema(TABLES[TABLE])
    overwrite(small, declared.append(pa.field("mood", pa.string())))
    more = schema_holds(small.lake, TABLE, None)
    assert not more.passed and more.severity == dg.AssetCheckSeverity.WARN and more.figure == 1
    assert more.description == "mood added against contract; mood added against version 0"
    overwrite(small, declared.remove(declared.get_field_index("p95")))
    fewer = schema_holds(small.lake, TABLE, None)
    assert not fewer.passed and fewer.severity == dg.AssetCheckSeverity.ERROR
    assert fewer.description.startswith("p95 dropped against contract; p95 dropped against version 1")
    assert "| p95 | dropped | contract | double |" in fewer.metadata["offending"].value


def test_a_change_since_the_last_look_is_told_even_after_other_commits_and_once(small: SmallLake) -> None:
    declared = arrow_schema(TABLES[TABLE])
    overwrite(small, declared.set(declared.get_field_index("events"), pa.field("events", pa.int32())))
    overwrite(small, declared)
    for _ in range(2):
        small.lake.commit_transaction(small.lake.writable(TABLE), "t", 1)
    seen_before = schema_holds(small.lake, TABLE, 1)  # as of version 1 it was a 32-bit number
    assert seen_before.description == "events retyped against version 1"
    assert seen_before.severity == dg.AssetCheckSeverity.WARN
    assert schema_holds(small.lake, TABLE, seen_before.metadata["table_version"]).passed


def test_a_last_look_at_a_version_that_is_gone_leaves_the_contract(small: SmallLake) -> None:
    small.lake.ensure(TABLE)
    assert schema_holds(small.lake, TABLE, 99).passed


def test_differences_name_what_happened() -> None:
    found = differences({"a": "int", "b": "int"}, {"b": "text", "c": "int"}, "contract")
    assert [(row["column"], row["change"]) for row in found] == [("a", "dropped"), ("b", "retyped"), ("c", "added")]
