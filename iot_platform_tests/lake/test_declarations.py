"""Declarations are read whole, checked by line, and a declared bound cannot be changed by a mapping."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from iot_platform.errors import InputError
from iot_platform.lake.declarations import declared_devices, declared_metrics, fingerprint

HEADER = "device_id,contract,device_type,site,zone,state,firmware,cadence_seconds,installed_at,retired_at\n"


def test_devices_are_read_with_their_times_in_utc(tmp_path: Path) -> None:
    (tmp_path / "devices-a.csv").write_text(
        HEADER + "d1,sensor_reading,,hall,,,,60,2026-03-01T02:00:00+02:00,\n"
        "d2,device_event,motion,,,,,,2026-03-02T00:00:00Z,\n"
    )
    first, second = declared_devices(tmp_path)
    assert (first["device_id"], first["site"], first["cadence_seconds"]) == ("d1", "hall", 60.0)
    assert first["installed_at"] == datetime(2026, 3, 1, tzinfo=UTC)
    assert (second["device_type"], second["site"], second["cadence_seconds"]) == ("motion", None, None)


def test_the_last_file_by_name_wins(tmp_path: Path) -> None:
    (tmp_path / "devices-a.csv").write_text(HEADER + "d1,sensor_reading,,hall,,,,60,2026-03-01T00:00:00Z,\n")
    (tmp_path / "devices-b.csv").write_text(HEADER + "d1,sensor_reading,,yard,,,,60,2026-03-01T00:00:00Z,\n")
    assert [row["site"] for row in declared_devices(tmp_path)] == ["yard"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",sensor_reading,,,,,,60,2026-03-01T00:00:00Z,", "device_id is empty"),
        ("d,weather,,,,,,60,2026-03-01T00:00:00Z,", "contract 'weather' is not one of"),
        ("d,sensor_reading,,,,,,0,2026-03-01T00:00:00Z,", "cadence_seconds 0 is not above 0"),
        ("d,sensor_reading,,,,,,fast,2026-03-01T00:00:00Z,", "could not convert"),
        ("d,sensor_reading,,,,,,60,,", "installed_at is empty"),
        ("d,sensor_reading,,,,,,60,2026-03-01T00:00:00,", "has no time zone"),
    ],
)
def test_a_bad_device_names_file_line_and_fault(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "devices.csv").write_text(HEADER + line + "\n")
    with pytest.raises(InputError, match="line 2") as caught:
        declared_devices(tmp_path)
    assert said in str(caught.value)


def test_a_missing_column_and_an_unreadable_file_are_said(tmp_path: Path) -> None:
    (tmp_path / "devices.csv").write_text("device_id\nd1\n")
    with pytest.raises(InputError, match="no column 'contract'"):
        declared_devices(tmp_path)
    (tmp_path / "devices.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        declared_devices(tmp_path)


def test_a_mapping_adds_bounds_and_cannot_change_declared_ones(tmp_path: Path) -> None:
    (tmp_path / "metrics-x.csv").write_text(
        "contract,metric,unit,min_value,max_value,source\n"
        "sensor_reading,temperature,K,0,1,x.yaml\nsensor_reading,co2,ppm,0,,x.yaml\n"
    )
    metrics = {(row["contract"], row["metric"]): row for row in declared_metrics(tmp_path)}
    assert metrics["sensor_reading", "temperature"]["max_value"] == 150
    assert metrics["sensor_reading", "co2"] == {
        "contract": "sensor_reading", "metric": "co2", "unit": "ppm", "min_value": 0.0, "max_value": None,
        "source": "x.yaml",
    }  # fmt: skip
    (tmp_path / "metrics-x.csv").write_text("contract,metric,unit,min_value,max_value,source\nnone,co2,ppm,0,,x\n")
    with pytest.raises(InputError, match="contract 'none'"):
        declared_metrics(tmp_path)


def test_the_fingerprint_moves_with_any_declaration(tmp_path: Path) -> None:
    before = fingerprint(tmp_path)
    (tmp_path / "devices.csv").write_text(HEADER)
    assert fingerprint(tmp_path) != before
    assert 0 < before < 2**63
