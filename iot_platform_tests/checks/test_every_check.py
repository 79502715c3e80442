"""Every check of the graph passes on good data, fails on data made bad for it, and shows what is wrong.

A check without a case here fails the first test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from iot_platform.checks.catalog import TableCheck, date_checks, table_checks
from iot_platform.checks.outcome import Outcome
from iot_platform.lake.levels import Levels
from iot_platform.lake.rollback import roll_back
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, NOW, TOPIC, D, SmallLake, at
from iot_platform_tests.checks.conftest import Inspect
from iot_platform_tests.checks.rows import device, health, metric, rejected, usable
from iot_platform_tests.lake.conftest import p95_row

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
Fill = Callable[[SmallLake], object]


@dataclass(frozen=True)
class Case:
    """What makes a check pass, what makes it fail, how badly, and what it then says and shows."""

    good: Fill
    bad: Fill
    severity: dg.AssetCheckSeverity
    says: str
    shows: str


def silver(*rows: dict[str, object]) -> Fill:
    return lambda small: small.put("silver/readings", D, rows)


def bronze(readings: int, refused: int = 0, **other: object) -> Fill:
    def fill(small: SmallLake) -> None:
        small.seq = int(NOW.timestamp() * 1_000_000)  # commits are numbered by their time
        rows = [{"event_time": at(D, 0) + DAY / readings * n, **other} for n in range(readings)]
        small.ingest(rows, [{}] * refused)

    return fill


def reject(reason: str, wrong: int) -> Fill:
    def fill(small: SmallLake) -> None:
        bronze(50)(small)
        small.put("silver/rejected_readings", D, [rejected(n, reason) for n in range(wrong)])

    return fill


def settled(usable_rows: int) -> Fill:
    def fill(small: SmallLake) -> None:
        bronze(4)(small)
        levels = Levels(small.lake)
        kept = [usable(n, topic=TOPIC) for n in range(usable_rows)]
        for table, rows in (("silver/readings", kept), ("silver/rejected_readings", [])):
            small.put(table, D, rows, level=levels.needed(TRANSFORMS[table], D))

    return fill


def weeks(last: int) -> Fill:
    """Three weeks of 40 rows on this weekday, then ``last``."""

    def fill(small: SmallLake) -> None:
        for back, rows in ((3, 40), (2, 40), (1, 40), (0, last)):
            day = D - 7 * DAY * back
            small.ingest([{"event_time": at(day, 0) + DAY / rows * n} for n in range(rows)])
            small.put("silver/readings", day, [usable(n, day) for n in range(rows)])

    return fill


def known(*devices: dict[str, object]) -> Fill:
    def fill(small: SmallLake) -> None:
        small.put("silver/readings", D, [usable()])
        small.put("registry/devices", None, devices)
        small.put("registry/metrics", None, [metric("temperature")] if devices else [])

    return fill


def retyped(small: SmallLake) -> None:
    table = TABLE["schema_is_as_declared"]
    rows = pa.table({"device_type": pa.array([1], pa.int64()), "event_date": pa.array([D])})
    small.lake.ensure(table)
    write_deltalake(small.lake.path(table), rows, mode="overwrite", schema_mode="overwrite")


def lost(small: SmallLake) -> None:
    bronze(3, refused=1)(small)
    small.lake.snapshot("bronze/readings").delta.delete("kafka_offset = 1")


def p95(*values: float) -> Fill:
    def fill(small: SmallLake) -> None:
        for value in values:
            small.put("gold/duration_p95", D, [p95_row(D, "light", p95=value)])

    return fill


def held(small: SmallLake) -> None:
    p95(1.0, 2.0)(small)
    roll_back(small.lake, "gold/duration_p95", D)


CASES: dict[str, Case] = {
    "contract": Case(
        silver(usable()), silver(usable(0), usable(1, device_id=None)), ERROR, "1 value(s) break",
        "| e1 | temperature | device_id | not_nullable |",
    ),
    "keys_are_unique": Case(
        silver(usable(0), usable(1)), silver(usable(0), usable(1), usable(1)), ERROR, "1 key(s) stand more than once",
        "| e1 | temperature | 2 |",
    ),
    "conservation": Case(settled(4), settled(3), ERROR, "1 row(s) of Bronze are neither", f"| {TOPIC} | 0 | 3 |"),
    "devices_are_declared": Case(
        known(device("d1"), device("silent", "inferred")), known(device("d1", "inferred")), WARN, "1 device(s)", "| d1 | 1 |"
    ),
    "metrics_are_declared": Case(known(device("d1")), known(), WARN, "1 metric(s)", "| sensor_reading | temperature |"),
    "null_rate": Case(reject("null_value", 0), reject("null_value", 1), WARN, "2.00% of 50 rows have no", "| d1 | 1 |"),
    "not_finite_rate": Case(reject("null_value", 9), reject("not_finite", 10), ERROR, "20.00% of 50 rows", "| d1 | 10 |"),
    "out_of_range_rate": Case(reject("duplicate", 9), reject("out_of_range", 2), WARN, "4.00% of 50", "| d1 | 2 |"),
    "duplicate_rate": Case(reject("duplicate", 4), reject("duplicate", 30), ERROR, "60.00% of 50 rows came before", "t 0:0"),
    "late_rate": Case(bronze(24), bronze(24, is_late=True), ERROR, "100.00% of 24 rows came late", "| d1 | 24 |"),
    "anomaly_rate": Case(
        silver(*(usable(n) for n in range(24))), silver(*(usable(n, is_anomaly=n < 6) for n in range(24))), WARN,
        "25.00% of 24 rows are anomalies; the bound is 10.00%", "| d1 | 6 |",
    ),
    "quarantine_rate": Case(
        bronze(99, refused=1), bronze(75, refused=25), ERROR, "25.00% of 100 rows were put into quarantine", "| not_json |"
    ),
    "volume": Case(
        weeks(60), weeks(4), ERROR, "4 rows, 10.0 times fewer than the median of the last 3 Tuesdays (40)",
        "| 2026-02-24 | 40 |",
    ),
    "fleet_is_healthy": Case(
        lambda small: small.put("gold/sensor_health", D, [health(f"d{n}", 100) for n in range(9)]),
        lambda small: small.put("gold/sensor_health", D, [health("mute", 0), *(health(f"d{n}", 100) for n in range(3))]),
        WARN, "25.00% of 4 device windows fail", "| mute | sensor_reading |",
    ),
    "schema_is_as_declared": Case(
        bronze(1), retyped, ERROR, "device_type retyped against contract", "| device_type | retyped |"
    ),
    "no_date_is_held": Case(
        p95(1.0), held, WARN, "1 date(s) are held by a rollback", "| 2026-03-10 | 1 |"
    ),
    "offsets_conservation": Case(
        bronze(3, refused=1), lost, ERROR, "1 consumed Kafka record(s) are neither", f"| {TOPIC} | 0 | 1 | 1 | 1 | nowhere |"
    ),
}  # fmt: skip
DATE = {check.name: check for check in date_checks()}
WHOLE = {check.name for check in table_checks()}
# The table that a case fills, of those that have the check.
TABLE = {
    "contract": "silver/readings", "keys_are_unique": "silver/readings", "schema_is_as_declared": "gold/duration_p95",
    "no_date_is_held": "gold/duration_p95",
}  # fmt: skip


def test_every_check_has_a_case() -> None:
    assert CASES.keys() == DATE.keys() | WHOLE


def evaluate(name: str, inspect: Inspect) -> Outcome:
    if name in DATE:
        checks = [check for check in date_checks() if check.name == name]
        check = next((check for check in checks if check.table == TABLE.get(name)), checks[0])
        # What arrived is judged by the date of arrival, all else by the date of measurement.
        day = NOW.date() if name == "quarantine_rate" else D
        return check.evaluate(inspect((day,)), day)
    whole = [check for check in table_checks() if check.name == name]
    return next((check for check in whole if check.table == TABLE.get(name)), whole[0]).evaluate(inspect(), None)


@pytest.mark.parametrize("name", CASES)
def test_a_check_passes_on_good_data(name: str, small: SmallLake, inspect: Inspect) -> None:
    CASES[name].good(small)
    outcome = evaluate(name, inspect)
    assert outcome.passed, outcome.description
    assert outcome.figure is not None and "offending" not in outcome.metadata


@pytest.mark.parametrize("name", CASES)
def test_a_check_fails_on_bad_data_and_shows_it(name: str, small: SmallLake, inspect: Inspect) -> None:
    case = CASES[name]
    case.bad(small)
    outcome = evaluate(name, inspect)
    assert not outcome.passed and outcome.severity == case.severity
    assert case.says in outcome.description
    assert case.shows and case.shows in outcome.metadata["offending"].value
    figure, unit = outcome.all_metadata["figure"], outcome.all_metadata["unit"]
    bound = outcome.all_metadata["fail_at" if case.severity == ERROR and outcome.fail_at else "warn_at"]
    assert figure >= bound and unit


@pytest.mark.parametrize("name", sorted(CASES.keys() & {"null_rate", "late_rate", "anomaly_rate", "quarantine_rate"}))
def test_a_poisoned_threshold_fails_what_was_good(name: str, small: SmallLake, inspect: Inspect) -> None:
    CASES[name].good(small)
    check, day = DATE[name], NOW.date() if name == "quarantine_rate" else D
    outcome = check.evaluate(inspect((day,), **{name: {"fail": 0}}), day)
    assert not outcome.passed and outcome.severity == ERROR and outcome.fail_at == 0


@pytest.mark.parametrize("name", DATE)
def test_a_date_without_data_passes(name: str, inspect: Inspect) -> None:
    assert DATE[name].evaluate(inspect(), D).passed


@pytest.mark.parametrize("check", table_checks(), ids=lambda check: f"{check.table} {check.name}")
def test_a_table_without_data_passes(check: TableCheck, inspect: Inspect) -> None:
    assert check.evaluate(inspect(), None).passed
