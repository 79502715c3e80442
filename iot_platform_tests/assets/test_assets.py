"""The pure parts of the assets: dates touched by a drain, ranges whose failed dates are kept apart, what metadata says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from iot_platform.assets.bronze import _fields, touched_dates
from iot_platform.assets.derived import failure, reads
from iot_platform.assets.metadata import column_schema, markdown_table, snapshot_metadata, table_of
from iot_platform.assets.platform import Platform
from iot_platform.contracts.tables import TABLES
from iot_platform.engines.materialize import DateResult
from iot_platform.engines.ranges import make_range
from iot_platform.errors import DataError, LakeError
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake


def test_a_drain_touched_the_dates_whose_sequence_grew() -> None:
    assert touched_dates({D: 5, D + DAY: 5}, {D: 5, D + DAY: 6, D + 2 * DAY: 1}) == [D + DAY, D + 2 * DAY]
    assert touched_dates({D: 5}, {D: 5}) == []


def made(day: date) -> DateResult:
    return DateResult("silver/readings", day, 1, 1, 1, 0.1, "duckdb", {})


def test_platform_errors_of_a_date_are_kept_for_the_end_and_others_rise() -> None:
    def make(day: date) -> DateResult:
        if day == D + DAY:
            raise DataError("a null")
        return made(day)

    result = make_range([D, D + DAY, D + 2 * DAY], make)
    assert [one.day for one in result.made] == [D, D + 2 * DAY] and list(result.failed) == [D + DAY]

    def defect(_day: date) -> DateResult:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_range([D], defect)


@pytest.mark.parametrize(("error", "is_retried"), [(DataError("a null"), False), (LakeError("disk full"), True)])
def test_broken_data_is_not_retried_and_a_full_disk_is(error: DataError | LakeError, is_retried: bool) -> None:
    def make(_day: date) -> DateResult:
        raise error

    failed = failure("silver/readings", make_range([D], make))
    assert failed.allow_retries is is_retried and "2026-03-10" in (failed.description or "")


def test_look_backs_are_told_in_words() -> None:
    assert reads(TRANSFORMS["gold/daily_summary"]) == "silver/readings of D-6 … D, silver/rejected_readings of D"
    assert reads(TRANSFORMS["silver/readings"]).startswith("bronze/readings of D-1 … D, registry/devices")


def test_rows_as_a_markdown_table_say_what_they_leave_out() -> None:
    assert markdown_table([]) == "none"
    shown = markdown_table([{"a": n, "b": "x|y"} for n in range(12)], limit=2)
    assert shown.splitlines() == [
        "| a | b |", "| --- | --- |", "| 0 | x\\|y |", "| 1 | x\\|y |", "", "… and 10 more",
    ]  # fmt: skip
    assert "2026-03-10T00:00:00+00:00" in markdown_table([{"at": datetime(2026, 3, 10, tzinfo=UTC)}])


def test_a_single_key_is_shown_as_unique_and_a_closed_list_in_words() -> None:
    columns = {column.name: column for column in column_schema(TABLES["registry/devices"]).columns}
    assert columns["device_id"].constraints.unique and not columns["source"].constraints.unique
    assert columns["source"].constraints.other == ["one of declared, inferred"]


def test_counts_of_a_date_stand_beside_those_of_the_table(small: SmallLake) -> None:
    small.day(D, readings=3)
    small.day(D + DAY, readings=2)
    metadata = snapshot_metadata(small.lake.snapshot("bronze/readings"), D)
    assert metadata["dagster/row_count"] == 5 and metadata["dagster/partition_row_count"] == 3
    assert 0 < metadata["partition_bytes"] < metadata["bytes"]
    assert table_of(dg.AssetKey(["bronze", "readings"])) == "bronze/readings"


@dataclass
class Drained:
    batches: int = 2
    seconds: float = 1.23456
    rows_by_date: dict[date, int] = field(default_factory=lambda: {D: 3})
    offsets: dict[str, dict[int, tuple[int, int]]] = field(default_factory=lambda: {"t": {0: (1, 4)}})


def test_a_drains_figures_are_metadata_that_json_can_hold() -> None:
    metadata = _fields(Drained())
    assert metadata["batches"] == 2 and metadata["seconds"] == 1.235 and metadata["engine"] == "spark"
    assert metadata["offsets"] == dg.MetadataValue.json({"t": {"0": [1, 4]}})
    assert metadata["rows_by_date"] == dg.MetadataValue.json({"2026-03-10": 3})


def test_the_platform_opens_its_parts_once_and_its_time_has_a_zone(settings: Settings) -> None:
    platform = Platform(settings)
    assert platform.lake is platform.lake and platform.engine is platform.engine
    assert platform.engine.name == "duckdb" and platform.now().tzinfo is UTC
    closed = platform.engine
    platform.close()
    platform.close()
    assert platform.engine is not closed
    platform.close()
