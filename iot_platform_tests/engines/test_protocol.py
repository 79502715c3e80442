"""The catalog and the values that engines share."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from iot_platform.contracts.tables import TABLES
from iot_platform.engines.protocol import InputFiles, Params, clocks_table, view_columns
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS, code_version
from iot_platform_tests.engines.lakes import fill_silver
from iot_platform_tests.transforms.rows import DAY


def test_every_derived_table_has_a_text_and_stands_after_what_it_reads() -> None:
    made: set[str] = set()
    for name, transform in TRANSFORMS.items():
        for item in transform.inputs:
            assert item.table in made | {name, "bronze/readings", "registry/metrics"}, f"{name} reads {item.table} too early"
        made.add(name)
    ops = {"ops/check_results", "ops/erasures", "ops/incidents"}
    written_by_others = {"bronze/readings", "bronze/quarantine", "registry/metrics"} | ops
    assert made == set(TABLES) - written_by_others


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_text_names_every_input_and_nothing_else(name: str) -> None:
    transform = TRANSFORMS[name]
    words = set(re.findall(r"[a-z_0-9]+", re.sub(r"--.*", "", transform.sql)))
    known = {table.view for table in TABLES.values()} | {"clocks", "declared_devices"}
    expected = set(view_columns(transform)) | ({"clocks"} if transform.clocks else set())
    assert words & known == expected


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_text_has_no_date_and_no_clock_of_its_own(name: str) -> None:
    text = re.sub(r"--.*", "", TRANSFORMS[name].sql).lower()
    assert not re.search(r"\b(now\(|today\(|current_date|current_timestamp|date '|timestamp ')", text)
    assert not re.search(r"\d{4}-\d{2}-\d{2}", text)


def test_the_code_version_changes_with_the_contract_only_where_it_must() -> None:
    one, other = TRANSFORMS["gold/sensor_windows"], TRANSFORMS["gold/location_hourly"]
    assert code_version(one) == code_version(replace(one, slice_by=""))
    assert code_version(one) != code_version(other)


def test_params_are_utc_midnights_and_the_run_s_time() -> None:
    moment = datetime(2026, 3, 11, 3, tzinfo=timezone(timedelta(hours=2)))
    (row,) = Params(DAY, moment, "v").table().to_pylist()
    assert row == {
        "event_date": DAY, "day_start": datetime(2026, 3, 10, tzinfo=UTC), "day_end": datetime(2026, 3, 11, tzinfo=UTC),
        "processed_at": datetime(2026, 3, 11, 1, tzinfo=UTC), "pipeline_version": "v",
    }  # fmt: skip
    (row,) = Params(None, moment, "v").table().to_pylist()
    assert (row["event_date"], row["day_start"], row["day_end"]) == (None, None, None)


def test_clocks_are_never_files(settings: Settings) -> None:
    lake = Lake(settings)
    fill_silver(lake)
    with pytest.raises(TypeError):
        clocks_table({"clocks": InputFiles(lake.snapshot("silver/readings"))})
