"""Column lineage is what the SQL says: hand-checked columns, every column of every table, sqlglot as a second opinion."""

from __future__ import annotations

import pytest
from sqlglot import exp
from sqlglot.lineage import lineage as sqlglot_lineage

from iot_platform.contracts.tables import TABLES
from iot_platform.transforms import catalog
from iot_platform.transforms.catalog import TRANSFORMS, input_columns
from iot_platform.transforms.lineage import (
    BESIDE_TABLES,
    column_lineage,
    lineage_of_sql,
    lineage_through,
)

SILVER = "silver/readings"
BRONZE = "bronze/readings"
PAST = ("device_id", "event_id", "event_time", "metric")  # what a window over a device's past is cut and ordered by


def of(table: str, *columns: str) -> set[tuple[str, str]]:
    return {(table, column) for column in columns}


# Read off the SQL texts by a person.
KNOWN = {
    (SILVER, "value"): of(BRONZE, "value"),
    (SILVER, "unit"): of(BRONZE, "unit") | of("registry/metrics", "unit"),
    (SILVER, "site"): of(BRONZE, "site") | of("registry/devices", "site"),
    (SILVER, "z_score"): of(BRONZE, "value", *PAST),
    (SILVER, "recent_count"): of(BRONZE, *PAST),
    (SILVER, "event_date"): of(BRONZE, "event_date"),
    (SILVER, "processed_at"): set(),
    ("silver/rejected_readings", "reason"): of(BRONZE, "value", "topic")
    | of("registry/metrics", "min_value", "max_value"),
    ("gold/sensor_windows", "p95"): of(SILVER, "value"),
    ("gold/sensor_windows", "window_start"): of(SILVER, "event_time"),
    ("gold/sensor_windows", "readings"): of(SILVER, "event_id", "metric"),
    ("gold/sensor_windows", "anomalies"): of(SILVER, "event_id", "metric", "is_anomaly"),
    ("gold/device_type_windows", "avg_event_duration_ms"): of(SILVER, "event_duration_ms"),
    ("gold/location_hourly", "sensors"): of(SILVER, "site", "metric", "event_time", "device_id"),
    ("gold/location_hourly", "max"): of(SILVER, "value"),
    ("gold/daily_summary", "avg_7d"): of(SILVER, "value"),
    ("gold/daily_summary", "site"): of(SILVER, "site") | of("silver/rejected_readings", "site"),
    ("gold/daily_summary", "event_date"): set(),
    ("gold/sensor_health", "expected"): of("registry/devices", "cadence_seconds"),
    ("gold/sensor_health", "window_seconds"): of("registry/devices", "cadence_seconds"),
    ("gold/sensor_health", "health_pct"): of(SILVER, "device_id", "event_time")
    | of("registry/devices", "device_id", "cadence_seconds"),
    ("gold/duration_p95", "p95"): of(SILVER, "event_duration_ms"),
    ("gold/duration_p95", "events"): of(SILVER, "event_id", "metric"),
    ("gold/anomaly_events", "peak_score"): of(SILVER, "z_score"),
    ("gold/anomaly_events", "continues"): of(SILVER, "event_time") | of("registry/devices", "cadence_seconds"),
    ("gold/anomaly_events", "detector"): set(),
    ("registry/devices", "installed_at"): of("registry/first_readings", "first_event_time"),
    ("registry/first_readings", "firmware"): of(BRONZE, "firmware") | of("registry/first_readings", "firmware"),
}


@pytest.mark.parametrize(("table", "column"), list(KNOWN))
def test_known_columns_come_from_where_a_person_reads_that_they_come_from(table: str, column: str) -> None:
    assert set(column_lineage(table)[column]) == KNOWN[table, column]


@pytest.mark.parametrize("table", list(TRANSFORMS))
def test_every_column_of_every_table_resolves_to_columns_that_its_inputs_have(table: str) -> None:
    lineage = column_lineage(table)
    assert list(lineage) == [column.name for column in TRANSFORMS[table].columns]
    inputs = {source.table for source in TRANSFORMS[table].inputs}
    for sources in lineage.values():
        assert list(sources) == sorted(set(sources))
        for source, column in sources:
            assert source in inputs and column in TABLES[source].column_names
    without = {column for column, sources in lineage.items() if not sources}
    # Of no table: the run's own values, constants, and how a device is known.
    assert without <= {"processed_at", "pipeline_version", "event_date", "detector", "source"}


@pytest.mark.parametrize("table", list(TRANSFORMS))
def test_sqlglots_own_lineage_finds_no_column_that_is_missing_here(table: str) -> None:
    transform = TRANSFORMS[table]
    views = {source.view: source.table for source in transform.inputs}
    schema = {view: {c.name: "varchar" for c in input_columns(name)} for view, name in views.items()}
    schema |= {view: dict.fromkeys(columns, "varchar") for view, columns in BESIDE_TABLES.items()}
    lineage = column_lineage(table)
    for column, node in sqlglot_lineage(None, transform.sql, schema, dialect="duckdb").items():
        leaves = [leaf for leaf in node.walk() if isinstance(leaf.expression, exp.Table)]
        found = {(views[leaf.expression.name], leaf.name.split(".")[-1]) for leaf in leaves if leaf.expression.name in views}
        assert {source for source in found if "*" not in source[1]} <= set(lineage[column]), column


def test_another_text_has_another_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    written = TRANSFORMS["gold/duration_p95"].sql
    changed = written.replace("order by e.event_duration_ms", "order by e.event_duration_ms * e.x + length(e.device_type)")
    assert changed != written
    before = column_lineage("gold/duration_p95")
    monkeypatch.setattr(catalog, "_text", lambda _view: changed)
    after = column_lineage("gold/duration_p95")
    assert set(after["p95"]) == of(SILVER, "event_duration_ms", "device_type")
    assert {name: after[name] for name in after if name != "p95"} == {name: before[name] for name in before if name != "p95"}


def test_a_table_between_is_looked_through_and_one_that_reads_itself_ends() -> None:
    lineage = lineage_through("registry/devices", ["registry/first_readings"])
    assert lineage["installed_at"] == ((BRONZE, "event_time"),)
    assert lineage["source"] == ()
    assert {table for sources in lineage.values() for table, _ in sources} == {BRONZE}
    assert lineage_through(SILVER, []) == column_lineage(SILVER)


SCHEMAS = {"a": ("k", "x", "y"), "b": ("k", "z")}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select x + y as s from a", {"s": {("a", "x"), ("a", "y")}}),
        ("select * exclude (y) from a", {"k": {("a", "k")}, "x": {("a", "x")}}),
        ("with t as (select * replace (x * y as x) from a) select x from t", {"x": {("a", "x"), ("a", "y")}}),
        ("select k from a union all select z from b", {"k": {("a", "k"), ("b", "z")}}),
        ("select k, z from a full join b using (k)", {"k": {("a", "k"), ("b", "k")}, "z": {("b", "z")}}),
        ("select sum(x) over w as s from a window w as (partition by k)", {"s": {("a", "x"), ("a", "k")}}),
        ("select count(*) over w as n from a window w as (partition by k order by y)", {"n": {("a", "k"), ("a", "y")}}),
        ("select (select max(z) from b where b.k = a.k) as m from a", {"m": {("b", "z"), ("b", "k"), ("a", "k")}}),
        ("select count(*) as n from a", {"n": {("a", "k")}}),
        ("select count(*) as n from (select distinct x from a) d", {"n": {("a", "x")}}),
        ("select count(*) as n from (select y from a group by x, y) g", {"n": {("a", "x"), ("a", "y")}}),
        ("select count(*) as n from (select x from a union all select z from b) u", {"n": {("a", "k")}}),
        ("select count(*) filter (where x > 1) as n from a", {"n": {("a", "x"), ("a", "k")}}),
        ('select t.x from "lake"."gold"."a" t where t.y > 0', {"x": {("a", "x")}}),
        ("select v.n from (values (1), (2)) as v (n)", {"n": set()}),
    ],
)  # fmt: skip
def test_lineage_of_a_query(sql: str, expected: dict[str, set[tuple[str, str]]]) -> None:
    found = lineage_of_sql(sql, SCHEMAS, {"a": ("k",)})
    assert {column: set(sources) for column, sources in found.items()} == expected


@pytest.mark.parametrize("sql", ["select nothing from a", "select from where", "select * from unknown", "drop table a"])
def test_a_query_that_cannot_be_told_is_refused(sql: str) -> None:
    with pytest.raises(ValueError, match="lineage of a query"):
        lineage_of_sql(sql, SCHEMAS)
