"""What derives from the declarations agrees with them, and with each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pandera.errors import SchemaErrors

from iot_platform.contracts.arrow import ARROW_TYPES, arrow_schema
from iot_platform.contracts.json_schema import json_schema
from iot_platform.contracts.pandera import POLARS_TYPES, polars_schema, violations
from iot_platform.contracts.parse import Refusal, parse_record, validate_message
from iot_platform.contracts.publish import FOLDER, publish, published_schemas
from iot_platform.contracts.spark import SPARK_TYPES, spark_schema
from iot_platform.contracts.tables import TABLES, Column, Kind, TableContract
from iot_platform.contracts.wire import CONTRACTS, SENSOR_READING, Json, Metric, WireField
from iot_platform_tests.contracts.messages import ARRIVAL_US, RULES, VALID, record
from iot_platform_tests.contracts.test_refusals import CASES


def test_the_published_json_schemas_are_those_of_the_declarations() -> None:
    published = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.json")}
    assert published == published_schemas(), "run `python -m iot_platform.contracts.publish`"


def test_publishing_writes_one_file_a_contract(tmp_path: Path) -> None:
    files = publish(tmp_path / "schemas")
    assert [file.name for file in files] == [f"{name}.v1.json" for name in CONTRACTS]
    assert all(json.loads(file.read_text(encoding="utf-8"))["title"] for file in files)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_json_schemas_are_schemas_and_take_valid_messages(contract: str) -> None:
    schema = json_schema(CONTRACTS[contract])
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(VALID[contract])


# A JSON Schema cannot say these: clocks, the text of a timestamp, control characters, limits, numbers that JSON lacks.
BEYOND_SCHEMA = {"bad_timestamp", "clock_out_of_range", "too_large", "too_deep", "not_finite", "bad_device_id"}


@pytest.mark.parametrize(
    ("value", "contract"),
    [
        (value, contract)
        for reason, value, contract in CASES
        if isinstance(value, dict) and reason not in BEYOND_SCHEMA
    ],
)
def test_what_the_parser_refuses_the_json_schema_refuses(value: dict[str, Any], contract: str) -> None:
    checker = Draft202012Validator(
        json_schema(CONTRACTS[contract]), format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    assert not checker.is_valid(value)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_type_in_every_format(kind: Kind) -> None:
    assert kind in ARROW_TYPES
    assert kind in SPARK_TYPES
    assert kind in POLARS_TYPES


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_all_formats_name_the_same_columns_in_the_same_order(table: TableContract) -> None:
    names = list(table.column_names)
    assert len(set(names)) == len(names)
    assert arrow_schema(table).names == names
    assert spark_schema(table).names == names
    assert list(polars_schema(table).columns) == names
    assert set(table.keys) | set(table.sort) <= set(names)
    assert table.partition is None or table.partition in names


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_an_empty_arrow_table_passes_its_pandera_schema(table: TableContract) -> None:
    frame = pl.from_arrow(arrow_schema(table).empty_table())
    assert isinstance(frame, pl.DataFrame)
    polars_schema(table).validate(frame, lazy=True)


@pytest.mark.parametrize("kind", Kind)
def test_spark_and_arrow_mean_the_same_type(kind: Kind) -> None:
    from pyspark.sql.pandas.types import to_arrow_type

    spark = to_arrow_type(SPARK_TYPES[kind], timezone="UTC")
    assert str(pa.field("x", spark).type).replace("element", "item") == str(ARROW_TYPES[kind]).replace("element", "item")


CHECKED = TableContract(
    "test/checked",
    "one row per name",
    "A table with every kind of rule.",
    (
        Column("name", Kind.STRING, "key"),
        Column("share", Kind.DOUBLE, "a share", minimum=0, maximum=1, nullable=True),
        Column("colour", Kind.STRING, "a colour", allowed=("red", "green")),
    ),
    keys=("name",),
    partition=None,
)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ["a", "a"]},
        {"name": ["a", None]},
        {"share": [0.5, 1.5]},
        {"share": [-0.1, None]},
        {"colour": ["red", "blue"]},
        {"share": [1, 2]},
        {"more": [1, 2]},
    ],
)
def test_pandera_finds_what_breaks_a_declaration(wrong: dict[str, list[Any]]) -> None:
    right: dict[str, list[Any]] = {"name": ["a", "b"], "share": [0.0, None], "colour": ["red", "green"]}
    schema = polars_schema(CHECKED)
    schema.validate(pl.DataFrame(right), lazy=True)
    with pytest.raises(SchemaErrors):
        schema.validate(pl.DataFrame(right | wrong), lazy=True)


@given(
    names=st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=4),
    share=st.one_of(st.none(), st.floats(-1, 2), st.sampled_from([float("nan"), float("inf"), 0.0, 1.0])),
    colour=st.sampled_from(["red", "green", "blue", "", None]),
)
def test_all_rules_at_once_say_the_same_as_one_after_the_other(
    names: list[str | None], share: float | None, colour: str | None
) -> None:
    rows = pa.table(
        {"name": names, "share": [share] * len(names), "colour": [colour] * len(names)}, schema=arrow_schema(CHECKED)
    )
    try:
        polars_schema(CHECKED, unique=False).validate(pl.DataFrame(pl.from_arrow(rows)), lazy=True)
        is_broken = False
    except SchemaErrors:
        is_broken = True
    assert (violations(CHECKED, rows.to_reader()) is not None) == is_broken


def test_a_new_metric_is_one_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    with_radon = replace(SENSOR_READING, metrics=(*SENSOR_READING.metrics, Metric("radon", "Bq/m³", 0, 10_000)))
    monkeypatch.setitem(CONTRACTS, SENSOR_READING.name, with_radon)
    sent = {"sensor_id": "r-1", "sensor_type": "radon", "value": 48, "timestamp": "2026-11-19T10:00:00Z"}
    parsed = parse_record(record(sent), RULES)
    assert not isinstance(parsed, Refusal)
    assert (parsed[0].metric, parsed[0].unit, parsed[0].value) == ("radon", "Bq/m³", 48.0)
    assert json_schema(with_radon)["x-metrics"]["radon"]["x-physical-maximum"] == 10_000
    assert with_radon.metric("radon") == Metric("radon", "Bq/m³", 0, 10_000)


def test_a_new_optional_field_is_one_declaration() -> None:
    extended = replace(
        SENSOR_READING,
        fields=(*SENSOR_READING.fields, WireField(("device", "firmware"), Json.STRING, "firmware", "its version", True)),
    )
    sent = VALID["sensor_reading"] | {"device": {"firmware": "2.0"}}
    assert validate_message(extended, sent, arrival_us=ARRIVAL_US) is None
    for device, reason in ((None, "wrong_type"), ({}, "missing_field"), ({"firmware": None}, "wrong_type")):
        told = validate_message(extended, sent | {"device": device}, arrival_us=ARRIVAL_US)
        assert told is not None
        assert told.reason == reason
