"""The graph as it is: every key, input, group, partitioning and check against a file, so that a change is seen and meant.

``python -m iot_platform_tests.test_definitions`` writes the file again.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import CronFreshnessPolicy, TimeWindowFreshnessPolicy

from iot_platform.assets.metadata import asset_key
from iot_platform.assets.places import DOMAIN, DOMAINS, LAYER, SUPPORT, TIER, tags
from iot_platform.automation.run import run_assets
from iot_platform.contracts.tables import TABLES
from iot_platform.definitions import NOT_FINAL_IN_USE, build_defs, defs
from iot_platform.lake.levels import daily_transforms
from iot_platform.settings import Settings

GROUPS = {"ingest", "bronze", "silver", "gold", "marts", "reports", "ops"}
GRAIN = re.compile(r"One (row|record|report) per [^.]+[.:] ")
SNAPSHOT = Path(__file__).with_name("definitions.json")


def described(definitions: dg.Definitions) -> dict[str, Any]:
    """What a reader of the graph sees, as plain data."""
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    assets: dict[str, Any] = {}
    for key in sorted(graph.get_all_asset_keys(), key=lambda key: tuple(key.path)):
        node = graph.get(key)
        assets["/".join(key.path)] = {
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "owners": list(node.owners),
            "tags": {name: value for name, value in sorted(node.tags.items()) if name.startswith("iot/")},
            "has_code_version": node.code_version is not None,
            "reads": sorted("/".join(parent.path) for parent in node.parent_keys),
            "partitions": type(node.partitions_def).__name__ if node.partitions_def else None,
            "backfill": node.backfill_policy.policy_type.name if node.backfill_policy else None,
            "pools": sorted(node.pools or ()),
            "freshness": fresh_within(node.freshness_policy),
            "checks": sorted(
                f"{check.name}{' (blocking)' if graph.get(check).blocking else ''}"
                f"{' by date' if graph.get(check).partitions_def else ''}"
                for check in graph.get_check_keys_for_assets({key})
            ),
        }
    return {
        "assets": assets,
        "sensors": {sensor.name: sensor.minimum_interval_seconds for sensor in repository.sensor_defs},
        "schedules": {schedule.name: schedule.cron_schedule for schedule in repository.schedule_defs},
        "resources": sorted(definitions.resources or {}),
    }


def fresh_within(policy: dg.FreshnessPolicy | None) -> str | None:
    """The policy in words."""
    if isinstance(policy, CronFreshnessPolicy):
        return f"by {policy.deadline_cron} {policy.timezone}, from {policy.lower_bound_delta} before"
    if isinstance(policy, TimeWindowFreshnessPolicy):
        return f"within {policy.fail_window.to_timedelta()}"
    return None


@pytest.fixture
def definitions(settings: Settings, dbt_manifest: Path) -> dg.Definitions:
    return build_defs(settings, manifest=dbt_manifest)


def test_the_graph_is_the_one_that_was_meant(definitions: dg.Definitions) -> None:
    found = json.loads(json.dumps(described(definitions)))
    assert found == json.loads(SNAPSHOT.read_text()), "run `python -m iot_platform_tests.test_definitions` if it was meant"


def test_everything_can_be_loaded(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)  # jobs of sensors and schedules too, as `dagster dev` does


def test_every_derived_daily_table_is_an_asset_whose_first_sentence_is_its_grain(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for transform in daily_transforms():
        node = graph.get(asset_key(transform.table))
        assert (node.description or "").lower().startswith(TABLES[transform.table].grain.lower())
        assert node.code_version and node.partitions_def


def test_every_asset_says_its_grain_first_and_has_a_group_kinds_an_owner_and_tags(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert GRAIN.match(node.description or ""), f"{key.to_user_string()}: {node.description}"
        assert node.group_name in GROUPS and node.kinds and node.owners
        assert {LAYER, DOMAIN, TIER} <= node.tags.keys()


def test_what_is_placed_by_name_is_an_asset(definitions: dg.Definitions) -> None:
    names = {"/".join(key.path) for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert names >= SUPPORT | DOMAINS.keys()
    assert tags(dg.AssetKey(["staging", "stg_gold__sensor_health"]))[DOMAIN] == "health"


def test_columns_stand_in_the_metadata_with_type_meaning_unit_and_bounds(definitions: dg.Definitions) -> None:
    schema = definitions.resolve_asset_graph().get(asset_key("gold/sensor_health")).metadata["dagster/column_schema"]
    columns = {column.name: column for column in schema.columns}
    assert list(columns) == list(TABLES["gold/sensor_health"].column_names)
    health = columns["health_pct"]
    assert health.type == "double" and health.description.endswith("[%]") and not health.constraints.nullable
    assert health.constraints.other == [">= 0", "<= 100"]


def test_topics_lead_to_marts(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    reached = dg.AssetSelection.assets(dg.AssetKey(["kafka", "iot.device-events"])).downstream().resolve(graph)
    assert dg.AssetKey(["marts", "duration_p95_weekly"]) in reached and dg.AssetKey(["marts", "devices"]) in reached


NOT_FINAL = (dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning)
DEPRECATED = r"[\s\S]*(deprecated|will be removed in)"  # as Dagster words it, wherever its stack says it comes from


@contextmanager
def nothing_that_may_change() -> Iterator[None]:
    """Within, what Dagster calls beta, preview, superseded or deprecated is an error."""
    with warnings.catch_warnings():
        for category in NOT_FINAL:
            warnings.simplefilter("error", category)
        warnings.filterwarnings("error", category=DeprecationWarning, module=r"iot_platform(\.|$)")
        warnings.filterwarnings("error", category=DeprecationWarning, message=DEPRECATED, module=r"dagster(\.|_|$)")
        yield


def test_nothing_of_dagsters_that_may_still_change_is_used_but_what_is_named(
    settings: Settings, dbt_manifest: Path
) -> None:
    with nothing_that_may_change():
        build_defs(settings, manifest=dbt_manifest).get_repository_def()


def test_what_is_named_as_not_final_is_in_use(
    settings: Settings, dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iot_platform.definitions.NOT_FINAL_IN_USE", ())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        build_defs(settings, manifest=dbt_manifest)
    for category, message in NOT_FINAL_IN_USE:
        assert [one for one in told if one.category is category and re.match(message, str(one.message))], message


def test_a_run_uses_nothing_of_dagsters_that_may_still_change(settings: Settings, dbt_manifest: Path) -> None:
    definitions = build_defs(settings, manifest=dbt_manifest)
    day = date(2026, 3, 10)
    with nothing_that_may_change():
        ran = run_assets(settings, day, day, select=["registry", "gold/duration_p95"], definitions=definitions)
    assert ran.is_success, ran.errors


def test_overrides_replace_resources(settings: Settings, dbt_manifest: Path) -> None:
    other = object()
    assert (build_defs(settings, {"platform": other}, dbt_manifest).resources or {})["platform"].resource is other


def test_what_dagster_loads_is_built_from_the_environment(
    settings: Settings, dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("iot_platform.definitions.dbt_manifest", lambda _settings: dbt_manifest)
    monkeypatch.setenv("IOT_HOME", str(settings.home))
    assert (defs().resources or {})["platform"].resource.settings.home == settings.home
    monkeypatch.setenv("DAGSTER_HOME", f"{settings.home}/dagster")
    defs()
    assert not caplog.records
    monkeypatch.setenv("DAGSTER_HOME", "/elsewhere/dagster")
    defs()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("DAGSTER_HOME is /elsewhere/dagster, but") and str(settings.home) in line


def test_loading_needs_no_broker_no_java_and_none_of_the_heavy_libraries(settings: Settings, dbt_manifest: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from iot_platform.settings import load_settings;"
        "from iot_platform.definitions import build_defs;"
        f"build_defs(load_settings(), manifest=Path({str(dbt_manifest)!r})).get_repository_def();"
        "heavy = ('pyspark', 'confluent_kafka', 'polars', 'pandas', 'pandera', 'dbt.version', 'boto3');"
        "print([name for name in heavy if name in sys.modules])"
    )
    environment = settings.environment() | {"PATH": "", "JAVA_HOME": "", "IOT_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    assert found.stdout.strip() == "[]"
    assert found.stderr == ""  # no warning of ours or of Dagster's
    assert not settings.home.exists()


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        chosen = Settings(home=Path(folder), _env_file=None)  # pyright: ignore[reportCallIssue]
        SNAPSHOT.write_text(json.dumps(described(build_defs(chosen)), indent=1, sort_keys=True) + "\n")
