"""Real data, the whole way: two files of the Numenta Anomaly Benchmark through Kafka, Spark, Silver and Gold.

What the tables say is held against a direct computation on the CSV files, in plain Python. All of it lands. The long test
makes all dates of the 5-minute file, and of the hourly one the first hundred (its windows, of one reading each, for the
first month); the short one a fortnight of each, and the dates on which readings were sent twice.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pytest

from iot_platform.ingest.run import drain
from iot_platform.settings import PROJECT_ROOT
from iot_platform.simulator.replay.run import replay
from iot_platform.topics import create_topics
from iot_platform_tests.conftest import Broker, MakeSettings
from iot_platform_tests.integration.derived import materialize, rows_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.integration

DATA = PROJECT_ROOT.parent / "shared" / "data" / "nab" / "data" / "realKnownCause"
FIRST_MONTH = timedelta(days=31)
HUNDRED_DAYS = timedelta(days=100)
FORTNIGHT = timedelta(days=14)
TABLES = ("silver/readings", "silver/rejected_readings", "gold/sensor_windows", "gold/daily_summary")


@dataclass
class Direct:
    """What one file says, computed from its lines: the first reading of a time counts, a later one is a duplicate."""

    lines: int = 0
    values: dict[datetime, float] = field(default_factory=dict)
    repeated: list[date] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path) -> Direct:
        made = cls()
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                made.lines += 1
                time = datetime.fromisoformat(line["timestamp"]).replace(tzinfo=UTC)
                if time in made.values:
                    made.repeated.append(time.date())
                else:
                    made.values[time] = float(line["value"])
        return made

    def grouped(self, window: timedelta) -> dict[datetime, list[float]]:
        groups: dict[datetime, list[float]] = defaultdict(list)
        for time, value in self.values.items():
            groups[time - (time - datetime(2000, 1, 1, tzinfo=UTC)) % window].append(value)
        return groups


def figures(values: list[float]) -> dict[str, float]:
    return {
        "readings": len(values), "avg": fmean(values), "min": min(values), "max": max(values),
        "p50": percentile(values, 0.5), "p95": percentile(values, 0.95), "p99": percentile(values, 0.99),
    }  # fmt: skip


def percentile(values: list[float], share: float) -> float:
    """Exact, by linear interpolation between the two nearest ranks."""
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (rank - low) * (ordered[high] - ordered[low])


@pytest.mark.parametrize("is_whole", [False, pytest.param(True, marks=pytest.mark.long)], ids=["a fortnight", "whole"])
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the data set is not there: {DATA}")
def test_real_files_come_out_as_a_direct_computation_says(
    kafka: Broker, make_settings: MakeSettings, topics_file: Path, spark: SparkSession, *, is_whole: bool
) -> None:
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    create_topics(settings)
    files = {
        "machine-1": ("nab_machine_temperature.yaml", Direct.of(DATA / "machine_temperature_system_failure.csv")),
        "office-1": ("nab_ambient_temperature.yaml", Direct.of(DATA / "ambient_temperature_system_failure.csv")),
    }
    now = datetime.now(UTC)
    for mapping, direct in files.values():
        result = replay(settings, DATA, PROJECT_ROOT / "examples" / mapping, now=now)
        assert (result.files, result.rows_read, result.rows_rejected) == (1, direct.lines, 0)
        assert result.messages_delivered == direct.lines
    landed = drain(settings, spark)
    assert (landed.readings, landed.quarantined, landed.late) == (sum(d.lines for _, d in files.values()), 0, 0)
    assert set(landed.rows_by_date) == {time.date() for _, direct in files.values() for time in direct.values}
    first = min(landed.rows_by_date)
    machine = files["machine-1"][1]
    machine_days = {time.date() for time in machine.values}
    if not is_whole:
        machine_days = {day for day in machine_days if day < min(machine_days) + FORTNIGHT} | set(machine.repeated)
    days = [
        day
        for day in sorted(landed.rows_by_date)
        if day in machine_days or day < first + (HUNDRED_DAYS if is_whole else FORTNIGHT)
    ]
    window_days = [day for day in days if day in machine_days or day < first + (FIRST_MONTH if is_whole else FORTNIGHT)]
    materialize(settings, dict.fromkeys(TABLES, days) | {"gold/sensor_windows": window_days}, now)
    made = {table: rows_of(settings, table) for table in TABLES}

    assert len(machine.repeated) == 12 and not files["office-1"][1].repeated
    for device, (_, direct) in files.items():
        rejected = [row for row in made["silver/rejected_readings"] if row["device_id"] == device]
        assert [row["reason"] for row in rejected] == ["duplicate"] * len(direct.repeated)
        silver = {row["event_time"]: row["value"] for row in made["silver/readings"] if row["device_id"] == device}
        assert silver == {time: value for time, value in direct.values.items() if time.date() in days}
        windows = direct.grouped(timedelta(minutes=5))
        made_windows = {start: values for start, values in windows.items() if start.date() in window_days}
        compare(made["gold/sensor_windows"], device, "window_start", made_windows)
        by_day = {time.date(): values for time, values in direct.grouped(timedelta(days=1)).items() if time.date() in days}
        compare(made["gold/daily_summary"], device, "event_date", by_day)
        compare_weeks(made["gold/daily_summary"], device, by_day)


def compare(rows: list[dict[str, Any]], device: str, key: str, groups: dict[Any, list[float]]) -> None:
    """The same groups with the same figures."""
    found = {row[key]: row for row in rows if row["device_id"] == device}
    assert found.keys() == groups.keys()
    for group, values in groups.items():
        expected = figures(values)
        assert {name: found[group][name] for name in expected} == pytest.approx(expected, rel=1e-9), group


def compare_weeks(rows: list[dict[str, Any]], device: str, days: dict[date, list[float]]) -> None:
    """``avg_7d`` is the mean over the readings of seven dates, not of seven means."""
    for row in rows:
        if row["device_id"] == device:
            week = [value for back in range(7) for value in days.get(row["event_date"] - timedelta(days=back), [])]
            assert row["avg_7d"] == pytest.approx(fmean(week), rel=1e-9)
