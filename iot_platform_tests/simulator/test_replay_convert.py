"""Rows into messages by mappings of every form, without a broker."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from iot_platform.contracts.parse import ParseRules
from iot_platform.errors import InputError
from iot_platform.simulator.replay.convert import Converter, mapping_name
from iot_platform.simulator.replay.files import find_files
from iot_platform.simulator.replay.mapping import load_mapping
from iot_platform.simulator.replay.rows import open_rows

ARRIVAL_US = 1_900_000_000_000_000
EXAMPLES = Path(__file__).parents[2] / "examples"
SENSOR = {
    "contract": "sensor_reading",
    "timestamp": {"format": "iso"},
    "columns": {"timestamp": "t", "value": "v"},
    "set": {"sensor_id": "s1", "sensor_type": "temperature"},
}


def write_mapping(folder: Path, content: Any) -> Path:
    path = folder / "mapping.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def convert(folder: Path, data: str | bytes, content: dict[str, Any], name: str = "data.csv") -> tuple[list[Any], list[Any]]:
    """The messages and rejections (line, reason, detail) of a file with this content."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return convert_file(path, write_mapping(folder, content))


def convert_file(path: Path, mapping_file: Path) -> tuple[list[Any], list[Any]]:
    mapping = load_mapping(mapping_file)
    messages, rejected = [], []
    with ExitStack() as stack:
        source = find_files(path, mapping)[0]
        rows = open_rows(source, mapping, stack)
        converter = Converter(mapping, rows, source.variables, ARRIVAL_US, ParseRules())
        for row in rows:
            result = converter.convert(row)
            messages += [json.loads(made.value) for made in result.messages]
            rejected += [(row.line, reason, detail) for reason, detail in result.rejected]
    return messages, rejected


def test_numbers_arrive_exactly_as_written(tmp_path: Path) -> None:
    data = "t,v\n" + "".join(
        f"2024-01-0{day},{text}\n" for day, text in enumerate(["21.10", "7", "-0.5e1", " +3 ", ".5", "9007199254740993"], 1)
    )
    messages, rejected = convert(tmp_path, data, SENSOR)
    assert rejected == []
    assert [message["value"] for message in messages] == [21.1, 7, -5.0, 3, 0.5, 9007199254740993]
    assert messages[0] == {
        "sensor_id": "s1", "sensor_type": "temperature", "timestamp": "2024-01-01T00:00:00Z", "value": 21.1,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["nan", "inf", "1_000", "1,5", "0x10", "12 C", "1e999", "--1", "٣"])
def test_what_is_no_number_is_rejected_with_its_line(tmp_path: Path, text: str) -> None:
    messages, rejected = convert(tmp_path, f't,v\n2024-01-01,"{text}"\n', SENSOR)
    assert messages == []
    assert rejected[0][:2] in {(2, "wrong_type"), (2, "not_finite")}


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ({"format": "iso"}, "2024-03-01 12:00:00", "2024-03-01T12:00:00Z"),
        ({"format": "iso", "timezone": "Europe/Rome"}, "2024-07-01T12:00:00", "2024-07-01T10:00:00Z"),
        ({"format": "iso", "timezone": "Europe/Rome"}, "2024-07-01T12:00:00-05:00", "2024-07-01T17:00:00Z"),
        ({"format": "epoch_s"}, "1709294400.25", "2024-03-01T12:00:00.250Z"),
        ({"format": "epoch_ms"}, "1709294400001", "2024-03-01T12:00:00.001Z"),
        ({"format": "epoch_us"}, "1709294400000001", "2024-03-01T12:00:00.000001Z"),
        ({"format": "%d/%m/%Y %H.%M.%S", "timezone": "Europe/Rome"}, "01/03/2024 12.00.00", "2024-03-01T11:00:00Z"),
        ("iso", "2024-03-01", "2024-03-01T00:00:00Z"),
    ],
)
def test_timestamps_of_all_forms_become_utc(tmp_path: Path, form: Any, text: str, expected: str) -> None:
    messages, rejected = convert(tmp_path, f"t,v\n{text},1\n", SENSOR | {"timestamp": form})
    assert rejected == []
    assert messages[0]["timestamp"] == expected


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("iso", "soon"),
        ({"format": "%Y"}, "24"),
        ({"format": "epoch_s"}, "1e99"),
        ({"format": "epoch_s"}, "x"),
        ({"format": "iso", "timezone": "Europe/Rome"}, "2024-03-31T02:30:00"),  # skipped when clocks went forward
    ],
)
def test_times_that_are_none_are_rejected(tmp_path: Path, form: Any, text: str) -> None:
    _, rejected = convert(tmp_path, f"t,v\n{text},1\n", SENSOR | {"timestamp": form})
    assert [reason for _, reason, _ in rejected] == ["bad_timestamp"]


def test_times_outside_the_partitions_are_rejected_by_the_contract_itself(tmp_path: Path) -> None:
    _, rejected = convert(tmp_path, "t,v\n1999-01-01,1\n2099-01-01,1\n", SENSOR)
    assert [reason for _, reason, _ in rejected] == ["clock_out_of_range", "clock_out_of_range"]


def test_missing_values_are_no_reading_and_a_row_without_any_is_rejected(tmp_path: Path) -> None:
    content = {
        "contract": "environment_reading",
        "timestamp": "iso",
        "columns": {"timestamp": "t", "sensor_id": "id", "temperature": "temp", "energy": "wh", "location": "loc"},
        "missing": ["", -200],
    }
    data = "t,id,temp,wh,loc\n2024-01-01,a,-200,5,x\n2024-01-01,b,-200.0,,\n,a,1,1,\n2024-01-01,,1,1,\n"
    messages, rejected = convert(tmp_path, data, content)
    assert messages == [
        {"timestamp": "2024-01-01T00:00:00Z", "sensor_id": "a", "energy_consumption": 5, "location": "x"}
    ]
    assert [(line, reason) for line, reason, _ in rejected] == [(line, "missing_field") for line in (3, 4, 5)]


def test_a_wide_file_gives_one_message_a_present_cell(tmp_path: Path) -> None:
    content = {
        "contract": "sensor_reading",
        "timestamp": "iso",
        "melt": {"co": 1, "temperature": "T"},
        "set": {"sensor_id": "{room}-{metric}", "location": "{room}", "status": "{note}"},
        "path": "{room}/data.csv",
        "missing": ["", "-200"],
    }
    content["timestamp"] = {"columns": ["t"]}
    data = "t,CO(GT),T,note\n2024-01-01,1.5,20,n\n2024-01-02,-200,,n\n2024-01-03,bad,3,n\n2024-01-04,1,1,\nsoon,1,1,n\n"
    messages, rejected = convert(tmp_path, data, content, "r7/data.csv")
    assert [(m["sensor_id"], m["sensor_type"], m["value"], m["location"]) for m in messages] == [
        ("r7-co", "co", 1.5, "r7"), ("r7-temperature", "temperature", 20, "r7"), ("r7-temperature", "temperature", 3, "r7"),
    ]  # fmt: skip
    reasons = [(line, reason) for line, reason, _ in rejected]
    assert reasons == [(4, "wrong_type"), (5, "missing_field"), (6, "bad_timestamp")]


def test_melting_into_the_other_contracts(tmp_path: Path) -> None:
    base = {"timestamp": {"columns": ["t"]}, "set": {"sensor_id": "x"}}
    data = "t,a,b\n2024-01-01,1,2\n"
    generic, _ = convert(tmp_path, data, base | {"contract": "generic_reading", "melt": {"a": "a", "b": "b"}})
    assert [message["measurements"] for message in generic] == [{"a": 1}, {"b": 2}]
    wide = base | {"contract": "environment_reading", "melt": {"energy": "a", "humidity": "b"}}
    environment, _ = convert(tmp_path, data, wide)
    assert [message.get("energy_consumption", message.get("humidity")) for message in environment] == [1, 2]


def test_nested_fields_open_metrics_and_tags(tmp_path: Path) -> None:
    event = {
        "contract": "device_event",
        "timestamp": "iso",
        "columns": {
            "event_id": "id", "timestamp": "t", "value": "v", "event_duration": "ms", "status": "st",
            "metadata.location": "z",
        },
        "set": {"device_id": "d", "device_type": "light", "metadata.firmware": 2},
    }  # fmt: skip
    good = "2f1a0186-bab2-4676-b2f0-02e0fa1faf02,2024-01-01,1,80,normal,zone-A\n"
    data = f"id,t,v,ms,st,z\n{good}nope,2024-01-01,1,80,normal,z\n"
    messages, rejected = convert(tmp_path, data, event)
    assert messages[0]["metadata"] == {"location": "zone-A", "firmware": "2"}
    assert rejected[0][1] == "wrong_type"
    generic = {
        "contract": "generic_reading",
        "timestamp": "iso",
        "columns": {"timestamp": "t", "measurements.co2": "c", "noise": "n", "tags.line": "l"},
        "set": {"sensor_id": "g"},
    }
    messages, _ = convert(tmp_path, '{"t": "2024-01-01", "c": 5, "n": "6", "l": 7}\n', generic, "a.jsonl")
    assert messages[0]["measurements"] == {"co2": 5, "noise": 6} and messages[0]["tags"] == {"line": "7"}


def test_typed_cells_of_parquet(tmp_path: Path) -> None:
    from datetime import datetime
    from decimal import Decimal

    import polars as pl

    frame = pl.DataFrame(
        {
            "t": [datetime(2024, 1, 1, 12, 0, 0, 5)] * 5,  # noqa: DTZ001 - a file that names no zone,
            "v": pl.Series([1.5, float("nan"), 3.0, 4.0, None], dtype=pl.Float32),
            "id": [1, 2, 3, 4, 5],
        }
    ).with_columns(d=pl.Series([Decimal("1.10")] * 5), b=pl.lit(value=True), l=pl.Series([[1]] * 5))
    frame.write_parquet(tmp_path / "a.parquet")
    content = SENSOR | {"columns": {"timestamp": "t", "value": "v", "sensor_id": "id"}, "set": {"sensor_type": "x"}}
    messages, rejected = convert_file(tmp_path / "a.parquet", write_mapping(tmp_path, content))
    assert [(m["sensor_id"], m["value"], m["timestamp"]) for m in messages] == [
        (str(n), v, "2024-01-01T12:00:00.000005Z") for n, v in ((1, 1.5), (3, 3.0), (4, 4.0))
    ]
    assert [reason for _, reason, _ in rejected] == ["missing_field", "missing_field"]
    for column, expected in (("d", 5), ("b", 0), ("l", 0)):
        content["columns"]["value"] = column
        messages, rejected = convert_file(tmp_path / "a.parquet", write_mapping(tmp_path, content))
        assert (len(messages), len(rejected)) == (expected, 5 - expected)
    content["columns"] = {"timestamp": "t", "value": "v", "sensor_id": "l"}
    _, rejected = convert_file(tmp_path / "a.parquet", write_mapping(tmp_path, content))
    assert {reason for _, reason, _ in rejected} == {"wrong_type"}


def test_the_shipped_wide_example_gives_what_its_file_says() -> None:
    messages, rejected = convert_file(EXAMPLES / "air_quality.csv", EXAMPLES / "air_quality.yaml")
    # 24 rows of 3 cells; 6 of them hold -200
    assert rejected == []
    assert len(messages) == 24 * 3 - 6
    first = messages[0]
    assert first["timestamp"] == "2024-03-09T23:00:00Z" and first["sensor_id"] == "station-harbour"
    assert first["measurements"] == {"co": 1.4}


def test_the_other_examples_are_mappings() -> None:
    assert {load_mapping(path).contract for path in EXAMPLES.glob("nab_*.yaml")} == {"sensor_reading"}


WRONG: list[tuple[dict[str, Any] | str, str]] = [
    ("contract: [", "mapping.yaml, line 1: not YAML"),
    ("- a", "needs the keys contract"),
    ({"columns": {}}, "columns: is missing"),
    ({"contract": "nope"}, "contract: there is no contract 'nope'"),
    ({"timestamp": None}, "timestamp: "),
    ({"timestmp": 1}, "timestmp: no such key"),
    ({"columns": {"timestamp": "t", "value": "v", "colour": "c"}}, "columns.colour: sensor_reading has no such field"),
    ({"set": {"sensor_id": "x", "sensor_type": "y", "value": 3}}, "set.value: comes from columns already"),
    ({"set": {"sensor_id": "x"}}, "columns.sensor_type: is missing; sensor_reading needs it"),
    ({"columns": {"timestamp": "t"}}, "columns: no measurement; sensor_reading takes value"),
    ({"columns": {"value": "v"}}, "timestamp.columns: is missing"),
    ({"timestamp": {"columns": "x"}}, "timestamp.columns: columns names the timestamp too"),
    ({"timestamp": {"format": "day"}}, "timestamp.format: 'day' is neither iso"),
    ({"timestamp": {"format": "%Q"}}, "timestamp.format: '%Q'"),
    ({"timestamp": {"timezone": "Mars/Base"}}, "timestamp.timezone: there is no time zone 'Mars/Base'"),
    ({"header": False}, "header: without a header columns are said by position"),
    ({"delimiter": "||"}, "delimiter: '||' is not one character"),
    ({"encoding": "klingon"}, "encoding: there is no encoding 'klingon'"),
    ({"columns": {"timestamp": "t", "value": -1}}, "columns: value: positions count from 0"),
    ({"metrics": {"temperature": {"unit": "°C", "max": 900}}}, "metrics.temperature: sensor_reading declares it"),
    ({"metrics": {"co": {"min": 5, "max": 1}}}, "metrics.co: min 5 is above max 1"),
    ({"devices": {"cadence_seconds": 0}}, "devices.cadence_seconds: "),
    ({"rate": -1}, "rate: "),
    ({"files": "/etc/*"}, "files: '/etc/*' does not lie below"),
    (
        {"set": {"sensor_id": "x", "sensor_type": "y", "timestamp": "z"}, "columns": {"value": "v"},
         "timestamp": {"columns": "t"}},
        "set: a timestamp comes from the data",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), WRONG)
def test_a_wrong_mapping_is_one_line_that_names_file_and_key(tmp_path: Path, change: Any, expected: str) -> None:
    content = change if isinstance(change, str) else SENSOR | change
    with pytest.raises(InputError) as raised:
        load_mapping(write_mapping(tmp_path, content))
    assert expected in str(raised.value)
    assert "mapping.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_metric_that_the_contract_cannot_carry_and_an_unknown_variable_are_named(tmp_path: Path) -> None:
    wide: dict[str, Any] = {"contract": "environment_reading", "timestamp": {"columns": ["t"]}, "melt": {"co": "a"}}
    wide["set"] = {"sensor_id": "x"}
    with pytest.raises(InputError, match=r"melt.co: environment_reading has no such metric; it has temperature"):
        load_mapping(write_mapping(tmp_path, wide))
    content = SENSOR | {"set": {"sensor_id": "{room}", "sensor_type": "x"}}
    with pytest.raises(InputError, match=r"set.sensor_id: there is no \{room\}; there are t, v"):
        convert(tmp_path, "t,v\n", content)
    with pytest.raises(InputError, match="No such file"):
        load_mapping(tmp_path / "nowhere.yaml")


def test_a_mapping_may_repeat_what_the_contract_declares_and_its_name_names_files(tmp_path: Path) -> None:
    bounds = {"temperature": {"unit": "°C", "min": -50, "max": 150}}
    assert load_mapping(write_mapping(tmp_path, SENSOR | {"metrics": bounds})).metrics
    assert mapping_name("my mapping/é") == "my-mapping-"
