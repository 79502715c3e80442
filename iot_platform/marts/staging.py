"""Writes the dbt project's source and staging files from the table contracts, so that a column is declared once.

``python -m iot_platform.marts.staging`` writes them; they are committed, and a test holds them equal to what this renders.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from iot_platform.contracts.duckdb import DUCKDB_TYPES
from iot_platform.contracts.tables import TABLES, Column, Kind, TableContract
from iot_platform.marts.sources import SOURCES
from iot_platform.settings import PROJECT_ROOT

DBT_PROJECT = PROJECT_ROOT / "dbt_project"
STAGING = Path("models") / "staging"
NOTE = "Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there."
LOADED_AT = ("processed_at", "evaluated_at")  # the column that says when a row was written
# Every date is closed after midnight, so that each table is written at least once a day.
FRESHNESS = {"warn_after": {"count": 2, "period": "day"}, "error_after": {"count": 7, "period": "day"}}
EPHEMERAL = {"silver/readings"}  # staged by hand: far too large to copy whole into the file that readers open


def columns(table: TableContract) -> list[Column]:
    """What is staged of a table: every column but the nested ones, which are the platform's own bookkeeping."""
    return [column for column in table.columns if column.kind not in {Kind.CHANGES, Kind.HEADERS, Kind.BINARY}]


def model_name(table: str) -> str:
    return f"stg_{table.replace('/', '__')}"


def description(column: Column) -> str:
    return f"{column.description} ({column.unit})" if column.unit else column.description


def sources_yml() -> str:
    """``sources.yml``: each table the project reads, with its columns, freshness and its asset in Dagster."""
    layers: dict[str, list[dict[str, Any]]] = {}
    for name in SOURCES:
        layer, table = name.split("/")
        contract = TABLES[name]
        config: dict[str, Any] = {"meta": {"dagster": {"asset_key": [layer, table]}}}
        if loaded := next((name for name in LOADED_AT if name in contract.column_names), None):
            # A copy: the same object twice would be an alias in YAML.
            config |= {"loaded_at_field": loaded, "freshness": copy.deepcopy(FRESHNESS)}
        layers.setdefault(layer, []).append(
            {
                "name": table,
                "description": contract.sentences,
                "config": config,
                "columns": [
                    {"name": column.name, "data_type": DUCKDB_TYPES[column.kind], "description": description(column)}
                    for column in contract.columns
                ],
            }
        )
    declared = [
        {
            "name": layer,
            "description": f"The lake's {layer} tables, each pinned at one version for the run.",
            "database": "lake",
            "schema": layer,
            "tables": tables,
        }
        for layer, tables in layers.items()
    ]
    return _yml({"sources": declared})


def staging_sql(table: str) -> str:
    """The staging model: source -> renamed -> select; a table by date takes just the dates that moved."""
    contract = TABLES[table]
    layer, name = table.split("/")
    listed = ",\n".join(f"        {column.name}" for column in columns(contract))
    moved = "\n    where {{ moved('event_date') }}" if contract.partition else ""
    materialized = "" if contract.partition else "{{ config(materialized='table') }}\n\n"
    return (
        f"-- {NOTE}\n{materialized}"
        f"with source as (\n    select * from {{{{ source('{layer}', '{name}') }}}}\n),\n\n"
        f"renamed as (\n    select\n{listed}\n    from source{moved}\n)\n\nselect * from renamed\n"
    )


def staging_yml(table: str) -> str:
    """The staging model's properties: grain, contract, keys unique and not null, closed lists."""
    contract = TABLES[table]
    keys = ([contract.partition] if contract.partition else []) + list(contract.keys)
    model: dict[str, Any] = {
        "name": model_name(table),
        "description": contract.sentences,
    }
    if len(keys) > 1:
        model["data_tests"] = [{"unique_key": {"arguments": {"columns": keys}}}]
    model["columns"] = []
    for column in columns(contract):
        item: dict[str, Any] = {
            "name": column.name,
            "data_type": DUCKDB_TYPES[column.kind],
            "description": description(column),
        }
        if not column.nullable:
            item["constraints"] = [{"type": "not_null"}]
        tests: list[Any] = ["not_null", "unique"] if [column.name] == keys else []
        if column.allowed:
            tests.append({"accepted_values": {"arguments": {"values": list(column.allowed)}}})
        if tests:
            item["data_tests"] = tests
        model["columns"].append(item)
    return _yml({"models": [model]})


def rendered() -> dict[Path, str]:
    """Every written file, by its path inside the dbt project."""
    files = {STAGING / "sources.yml": sources_yml()}
    for table in SOURCES:
        if table not in EPHEMERAL:
            files[STAGING / f"{model_name(table)}.sql"] = staging_sql(table)
            files[STAGING / f"{model_name(table)}.yml"] = staging_yml(table)
    return files


def write(project: Path = DBT_PROJECT) -> None:
    for path, text in rendered().items():
        (project / path).write_text(text, encoding="utf-8")


def _yml(content: dict[str, Any]) -> str:
    text = yaml.safe_dump({"version": 2} | content, sort_keys=False, allow_unicode=True, width=120)
    return f"# {NOTE}\n{text}"


if __name__ == "__main__":
    write()
