"""The marts: the dbt project as assets, its sources mapped onto Silver, Gold and registry, its tests as asset checks.

dbt runs as ``marts.build`` runs it for everybody (one writer, tested, then published); here its results become events.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from iot_platform.assets.dagster_dbt_light import DagsterDbtTranslator, dbt_assets
from iot_platform.assets.metadata import OWNERS
from iot_platform.assets.platform import Platform
from iot_platform.errors import PlatformError
from iot_platform.settings import Settings

POOL = "marts"  # one writer of the DuckDB file
UNIQUE_ID = "dagster_dbt/unique_id"
GOOD = {"success", "pass", "warn"}


class MartsTranslator(DagsterDbtTranslator):
    """Names dbt's resources as the platform does: ``marts/devices``; a source is the asset that the project says it is."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            return super().get_asset_key(dbt_resource_props)  # the project says it itself, in meta.dagster.asset_key
        folder = dbt_resource_props["fqn"][1]
        return dg.AssetKey([folder, dbt_resource_props["name"]])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        return OWNERS

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return dbt_resource_props.get("description") or dbt_resource_props["name"]


@dataclass(frozen=True)
class NodeResult:
    """How one dbt node ended."""

    status: str
    message: str
    seconds: float
    failures: int


def marts_assets(settings: Settings, manifest: Path) -> dg.AssetsDefinition:
    """Every dbt model as an asset and every dbt test as an asset check, built by one step."""

    @dbt_assets(
        manifest=manifest,
        name="build_marts",
        dagster_dbt_translator=MartsTranslator(),
        backfill_policy=dg.BackfillPolicy.single_run(),  # so that a range of dates and the marts can be one run
        pool=POOL,
    )
    def build_marts(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[Any]:
        from iot_platform.marts.build import build, target_folder

        definition = context.assets_def
        models = {key: definition.specs_by_key[key].metadata[UNIQUE_ID] for key in definition.keys}
        tests = {spec.key: (spec.metadata or {})[UNIQUE_ID] for spec in definition.check_specs}
        chosen = None if not context.is_subset else selection(
            [models[key] for key in context.selected_asset_keys],
            [tests[key] for key in context.selected_asset_check_keys],
        )
        failed: PlatformError | None = None
        try:
            build(platform.settings, select=chosen or ())
        except PlatformError as error:
            failed = error
        results = node_results(target_folder(platform.settings) / "run_results.json")
        rows = row_counts(platform.settings.marts)
        made = {models[key]: key for key in context.selected_asset_keys}
        for unique_id, result in results.items():  # in dbt's order, which Dagster asks for too: inputs first
            if unique_id in made and result.status in GOOD:
                metadata = {"seconds": result.seconds, **_row_count(rows, made[unique_id])}
                yield dg.MaterializeResult(asset_key=made[unique_id], metadata=metadata)
        for check in context.selected_asset_check_keys:
            if result := results.get(tests[check]):
                yield check_result(check, result)
        if failed:
            raise dg.Failure(description=str(failed), allow_retries=False)

    return build_marts


def selection(models: Iterable[str], tests: Iterable[str]) -> list[str]:
    """dbt's ``--select`` for these nodes, given by unique id."""
    return sorted(unique_id.split(".")[2] for unique_id in (*models, *tests))


def check_result(check: dg.AssetCheckKey, result: NodeResult) -> dg.AssetCheckResult:
    """A dbt test as the result of an asset check."""
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=result.status == "pass",
        severity=dg.AssetCheckSeverity.WARN if result.status == "warn" else dg.AssetCheckSeverity.ERROR,
        metadata={"status": result.status, "failures": result.failures, "seconds": result.seconds},
        description=result.message or None,
    )


def node_results(path: Path) -> dict[str, NodeResult]:
    """How each node of the last build ended, by unique id; nothing when dbt did not get that far."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError, KeyError):
        return {}
    return {
        result["unique_id"]: NodeResult(
            result["status"], (result.get("message") or "").strip(), round(result["execution_time"], 3),
            result.get("failures") or 0,
        )
        for result in found
    }  # fmt: skip


def row_counts(published: Path) -> dict[str, int]:
    """Rows of every table in the published file."""
    import duckdb

    if not published.exists():
        return {}
    with duckdb.connect(str(published), read_only=True) as connection:
        return dict(connection.execute("select table_name, estimated_size from duckdb_tables()").fetchall())


def _row_count(rows: Mapping[str, int], key: dg.AssetKey) -> dict[str, Any]:
    name = key.path[-1]
    return {"dagster/row_count": rows[name]} if name in rows else {}
