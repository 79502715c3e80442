"""The marts: the dbt project as assets, its sources mapped onto Silver, Gold and registry, its tests as asset checks.

dbt runs as ``marts.build`` runs it for everybody (one writer, tested, then published); here its results become events
(``marts_events``). A model that dbt makes by date has the platform's daily partitions, and so have its tests: a range that
somebody materializes is made again, and where a test fails it says of which dates.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from iot_platform.assets.dagster_dbt_light import DagsterDbtTranslator, dbt_assets
from iot_platform.assets.derived import LEVEL_TAG
from iot_platform.assets.marts_events import UNIQUE_ID, events
from iot_platform.assets.metadata import OWNERS
from iot_platform.assets.platform import Platform
from iot_platform.automation.run_events import ONLY_CHECKS
from iot_platform.settings import Settings

POOL = "marts"  # one writer of the DuckDB file


class MartsTranslator(DagsterDbtTranslator):
    """Names dbt's resources as the platform does: ``marts/devices``; a source is the asset that the project says it is."""

    def __init__(self, partitions: dg.PartitionsDefinition) -> None:
        super().__init__()
        self.partitions = partitions

    def get_partitions_def(self, dbt_resource_props: Mapping[str, Any]) -> dg.PartitionsDefinition | None:
        return self.partitions if is_by_date(dbt_resource_props) else None

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        return dg.AssetCheckSpec(
            spec.name, asset=spec.asset_key, description=spec.description or meaning(manifest["nodes"][unique_id]),
            additional_deps=spec.additional_deps, blocking=spec.blocking, metadata=spec.metadata,
            partitions_def=asset_spec.partitions_def,
        )  # fmt: skip

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            return super().get_asset_key(dbt_resource_props)  # the project says it itself, in meta.dagster.asset_key
        folder = dbt_resource_props["fqn"][1]
        return dg.AssetKey([folder, dbt_resource_props["name"]])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        return OWNERS

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return dbt_resource_props.get("description") or dbt_resource_props["name"]


def is_by_date(node: Mapping[str, Any]) -> bool:
    """Whether dbt makes a model date by date. One made by weeks has no partition: a run is of one partitioning."""
    config = node.get("config", {})
    return config.get("materialized") == "incremental" and config.get("meta", {}).get("grain", "day") == "day"


def meaning(test: Mapping[str, Any]) -> str | None:
    """What a dbt test holds, in words."""
    kind = test.get("test_metadata", {}).get("name")
    arguments = test.get("test_metadata", {}).get("kwargs", {})
    column = arguments.get("column_name")
    sentences = {
        "unique": f"No two rows have the same {column}.",
        "not_null": f"{column} is never null.",
        "unique_key": f"No two rows have the same {', '.join(arguments.get('columns', ()))}, and none of these is null.",
        "accepted_values": f"{column} is one of {', '.join(map(str, arguments.get('values', ())))}.",
        "relationships": f"Every {column} is a {arguments.get('field')} of {arguments.get('to')}.",
        "within": f"{column} is at least {arguments.get('minimum')}"
        + (f" and at most {arguments['maximum']}." if "maximum" in arguments else "."),
    }
    return sentences.get(kind or "")


def marts_assets(settings: Settings, manifest: Path, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Every dbt model as an asset and every dbt test as an asset check, built by one step."""

    @dbt_assets(
        manifest=manifest,
        name="build_marts",
        dagster_dbt_translator=MartsTranslator(partitions),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
    )
    def build_marts(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Iterator[Any]:
        from iot_platform.marts.build import attempt

        asked = asked_dates(context)
        # Who launches dates by hand wants them made again; a sensor wants what moved among them.
        remake = asked is not None and LEVEL_TAG not in context.run.tags
        built = attempt(
            platform.settings, (asked[0], asked[-1]) if asked else None, remake,
            select=selection(context), tests_only=not context.selected_asset_keys,
        )  # fmt: skip
        yield from events(context, built, asked)
        if built.error:
            metadata = {ONLY_CHECKS: True} if built.is_failed_by_tests else None
            raise dg.Failure(description=str(built.error), metadata=metadata, allow_retries=False)

    return build_marts


def asked_dates(context: dg.AssetExecutionContext) -> list[date] | None:
    """The dates that the run is of (UTC, all of them); None of a run that makes no table by date."""
    if not (context.has_partition_key or context.has_partition_key_range) or context.assets_def.partitions_def is None:
        return None
    asked = context.partition_key_range
    first, last = date.fromisoformat(asked.start), date.fromisoformat(asked.end)
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def selection(context: dg.AssetExecutionContext) -> list[str]:
    """dbt's ``--select`` for what the run makes and checks; empty: everything."""
    if not context.is_subset:
        return []
    definition = context.assets_def
    made = [definition.specs_by_key[key].metadata[UNIQUE_ID] for key in context.selected_asset_keys]
    checks = {spec.key: (spec.metadata or {})[UNIQUE_ID] for spec in definition.check_specs}
    return names([*made, *(checks[key] for key in context.selected_asset_check_keys)])


def names(unique_ids: Iterable[Any]) -> list[str]:
    """The names of dbt nodes, given by unique id."""
    return sorted(str(unique_id).split(".")[2] for unique_id in unique_ids)
