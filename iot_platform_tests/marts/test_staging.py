"""The dbt project and the table contracts say the same: names, types, keys; and everything in the project is described."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from iot_platform.contracts.duckdb import DUCKDB_TYPES
from iot_platform.contracts.tables import TABLES
from iot_platform.definitions import build_defs
from iot_platform.lake.questions import read_questions
from iot_platform.marts.build import manifest
from iot_platform.marts.sources import SOURCES
from iot_platform.marts.staging import DBT_PROJECT, STAGING, model_name, rendered, write
from iot_platform.settings import PROJECT_ROOT, Settings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("manifest-home"), _env_file=None)  # pyright: ignore[reportCallIssue]


@pytest.fixture(scope="module")
def parsed(home: Settings) -> dict[str, Any]:
    return json.loads(manifest(home).read_text())


def models(parsed: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in parsed["nodes"].values() if node["resource_type"] == "model"]


def test_written_files_are_what_the_contracts_render() -> None:
    for path, text in rendered().items():
        assert (DBT_PROJECT / path).read_text() == text, f"{path}: run `python -m iot_platform.marts.staging`"


def test_no_staging_file_is_left_of_a_table_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / STAGING).mkdir(parents=True)
    write(tmp_path)
    written = {path.name for path in (tmp_path / STAGING).iterdir()}
    by_hand = {"stg_silver__device_events.sql", "stg_silver__device_events.yml"}
    assert {path.name for path in (DBT_PROJECT / STAGING).iterdir()} == written | by_hand


def test_sources_have_the_columns_of_the_contracts_and_the_assets_of_the_graph(parsed: dict[str, Any]) -> None:
    sources = {f"{source['source_name']}/{source['name']}": source for source in parsed["sources"].values()}
    assert set(sources) == set(SOURCES)
    for name, source in sources.items():
        types = {column["name"]: column["data_type"] for column in source["columns"].values()}
        assert types == {column.name: DUCKDB_TYPES[column.kind] for column in TABLES[name].columns}
        assert source["meta"]["dagster"]["asset_key"] == name.split("/")


def test_columns_staged_by_hand_are_those_of_the_contract(parsed: dict[str, Any]) -> None:
    staged = parsed["nodes"]["model.iot_platform.stg_silver__device_events"]["columns"]
    silver = {column.name: DUCKDB_TYPES[column.kind] for column in TABLES["silver/readings"].columns}
    assert {name: column["data_type"] for name, column in staged.items()} == {name: silver[name] for name in staged}


def test_every_model_opens_with_its_grain_and_every_column_is_typed_and_described(parsed: dict[str, Any]) -> None:
    for model in models(parsed):
        assert model["description"].startswith("One row per "), model["name"]
        for column in model["columns"].values():
            assert column["description"] and column["data_type"], (model["name"], column["name"])
        assert model["contract"]["enforced"] or model["config"]["materialized"] == "ephemeral"


def test_every_stored_model_has_a_unique_key_and_every_model_with_logic_a_unit_test(parsed: dict[str, Any]) -> None:
    tested = {
        node["attached_node"]
        for node in parsed["nodes"].values()
        if node["resource_type"] == "test" and node["test_metadata"]["name"] in {"unique", "unique_key"}
    }
    stored = {model["unique_id"] for model in models(parsed) if model["config"]["materialized"] != "ephemeral"}
    assert stored <= tested
    written = {model_name(table) for table in SOURCES}  # staging that takes its source as it is
    logic = {model["name"] for model in models(parsed)} - written
    assert {test["model"] for test in parsed["unit_tests"].values()} == logic
    marts = {model["name"] for model in models(parsed) if model["fqn"][1] == "marts"}
    assert marts == {
        "devices", "device_health_daily", "environment_windows", "anomalies", "duration_p95_weekly", "site_daily",
        "check_trend",
    }  # fmt: skip


def test_every_device_of_a_mart_is_one_of_the_devices(parsed: dict[str, Any]) -> None:
    related = {
        node["attached_node"].split(".")[-1]
        for node in parsed["nodes"].values()
        if node["resource_type"] == "test" and node["test_metadata"]["name"] == "relationships"
    }
    marts = {model["name"] for model in models(parsed) if model["fqn"][1] == "marts" and "device_id" in model["columns"]}
    assert marts - related == {"devices"}


def test_every_source_that_says_when_it_was_written_has_freshness_and_every_mart_a_reader(parsed: dict[str, Any]) -> None:
    timed = {f"{one['source_name']}/{one['name']}": one for one in parsed["sources"].values() if one["loaded_at_field"]}
    assert all(source["freshness"]["error_after"]["count"] for source in timed.values())
    assert set(SOURCES) - timed.keys() == {"registry/devices"}  # changes when devices do, and that may be never
    read = {node.split(".")[-1] for exposure in parsed["exposures"].values() for node in exposure["depends_on"]["nodes"]}
    assert {model["name"] for model in models(parsed) if model["fqn"][1] == "marts"} <= read
    assert all(exposure["owner"]["name"] and "://" not in exposure["url"] for exposure in parsed["exposures"].values())


def test_what_reads_the_marts_says_what_it_reads(parsed: dict[str, Any], home: Settings) -> None:
    graph = build_defs(home, manifest=manifest(home)).resolve_asset_graph()

    def reads(exposure: dict[str, Any]) -> set[str]:
        nodes = [parsed["sources"].get(one) or parsed["nodes"][one] for one in exposure["depends_on"]["nodes"]]
        return {f"{one.get('source_name', 'marts')}/{one['name']}" for one in nodes}

    exposures = {exposure["name"]: exposure for exposure in parsed["exposures"].values()}
    told = {name: one["config"]["meta"] for name, one in exposures.items() if one["config"]["meta"]}
    assets = {name: meta["dagster"]["asset_key"] for name, meta in told.items()}
    assert {tuple(key) for key in assets.values()} == {
        tuple(key.path) for key in graph.get_all_asset_keys() if key.path[0] == "reports"
    }
    for name, key in assets.items():
        parents = {"/".join(parent.path) for parent in graph.get(dg.AssetKey(key)).parent_keys}
        assert reads(exposures[name]) == {parent for parent in parents if not parent.startswith("bronze/")}, name

    known = {TABLES[name].view: name for name in SOURCES}
    known |= {model["name"]: f"marts/{model['name']}" for model in models(parsed) if model["fqn"][1] == "marts"}
    questions = read_questions(PROJECT_ROOT / "examples" / "analysis.sql")
    asked = {name for question in questions for name in re.findall(r"\b(?:from|join)\s+(\w+)", question.sql)}
    assert reads(exposures["questions"]) == {known[name] for name in asked if name in known}


@pytest.mark.usefixtures("parsed")
def test_the_manifest_is_parsed_again_only_when_the_project_changed(home: Settings) -> None:
    before = manifest(home).stat().st_mtime_ns
    assert manifest(home).stat().st_mtime_ns == before
