"""Code that changed: what it made before is shown as outdated, date by date, until it is made again; nothing else is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from iot_platform.assets.bronze import BRONZE
from iot_platform.assets.metadata import asset_key
from iot_platform.assets.versions import level_tags
from iot_platform.automation.run import persistent_instance, run_assets
from iot_platform.automation.streaming_sensor import commits_to_report
from iot_platform.definitions import build_defs
from iot_platform.errors import LakeError
from iot_platform.lake.lake import Lake
from iot_platform.lake.outdated import newest_date, outdated
from iot_platform.settings import Settings
from iot_platform.transforms import catalog
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake

SILVER, WINDOWS = "silver/readings", "gold/sensor_windows"
BOTH = [D, D + DAY]
LAYERS = ["registry", SILVER, WINDOWS]


class Changing:
    """The texts of the transforms, one of which changes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.written = patch, catalog._text

    def change(self, view: str, remark: str = "-- changed") -> None:
        self.patch.setattr(
            catalog, "_text", lambda asked: self.written(asked) + (f"\n{remark}\n" if asked == view else "")
        )


@pytest.fixture
def code() -> Iterator[Changing]:
    with pytest.MonkeyPatch.context() as patch:
        yield Changing(patch)


@pytest.fixture
def told(settings: Settings, small: SmallLake) -> SmallLake:
    """Two days in Bronze that Dagster was told of, as the streaming sensor tells of them."""
    small.day(D, 24)
    small.day(D + DAY, 24)
    tell(settings)
    return small


def tell(settings: Settings) -> None:
    with persistent_instance(settings) as instance:
        for event in commits_to_report(Lake(settings), instance, None)[0]:
            instance.report_runless_asset_event(event)


def causes(settings: Settings, manifest: Path, table: str, days: Sequence[date] = BOTH) -> dict[date, list[str]]:
    """Why Dagster takes each of these dates for outdated; no cause: it does not."""
    graph = build_defs(settings, manifest=manifest).resolve_asset_graph()
    with persistent_instance(settings) as instance:
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        found = {day: resolver.get_stale_causes(asset_key(table), day.isoformat()) for day in days}
        assert all(resolver.get_status(asset_key(table), day.isoformat()).value != "MISSING" for day in days)
    return {day: [cause.category.value for cause in listed] for day, listed in found.items()}


def test_a_changed_text_outdates_the_dates_it_made_until_they_are_made_again(
    settings: Settings, told: SmallLake, dbt_manifest: Path, code: Changing
) -> None:
    made = run_assets(settings, *BOTH, select=LAYERS, definitions=build_defs(settings, manifest=dbt_manifest))
    assert made.is_success
    fresh = {D: [], D + DAY: []}
    assert [causes(settings, dbt_manifest, table) for table in (SILVER, WINDOWS)] == [fresh] * 2
    assert outdated(told.lake) == {}

    code.change("silver_readings")
    changed = build_defs(settings, manifest=dbt_manifest)
    assert causes(settings, dbt_manifest, SILVER) == {D: ["CODE"], D + DAY: ["CODE"]}
    assert causes(settings, dbt_manifest, WINDOWS) == fresh  # its own text is what it was
    assert outdated(told.lake) == {SILVER: BOTH} and outdated(told.lake, since=D + DAY) == {SILVER: [D + DAY]}

    # A run that skips what is up to date takes other code for a reason not to.
    again = run_assets(settings, D, D, select=[SILVER], force=False, definitions=changed)
    assert again.is_success
    assert causes(settings, dbt_manifest, SILVER) == {D: [], D + DAY: ["CODE"]}
    assert causes(settings, dbt_manifest, WINDOWS) == {D: ["DATA"], D + DAY: []}
    assert outdated(told.lake) == {SILVER: [D + DAY]}

    assert run_assets(settings, *BOTH, select=LAYERS, force=False, definitions=changed).is_success
    assert [causes(settings, dbt_manifest, table) for table in (SILVER, WINDOWS)] == [fresh] * 2
    assert outdated(told.lake) == {}


def test_a_new_device_outdates_no_date_in_dagster_and_new_readings_outdate_theirs(
    settings: Settings, told: SmallLake, dbt_manifest: Path
) -> None:
    definitions = build_defs(settings, manifest=dbt_manifest)
    assert run_assets(settings, *BOTH, select=LAYERS, definitions=definitions).is_success
    told.day(D + DAY, 12, device_id="d2")
    tell(settings)
    assert run_assets(settings, select=["registry"], definitions=definitions).is_success
    # The device bears on the dates from its first reading on, and its level says so; D must not wait for ever.
    assert causes(settings, dbt_manifest, SILVER) == {D: [], D + DAY: ["DATA"]}


def test_the_good_dates_of_a_failed_step_are_recorded_as_dagster_records_those_of_a_good_one(
    settings: Settings, told: SmallLake, dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iot_platform.engines import materialize

    make = materialize.materialize_date

    def failing(lake: Lake, engine: object, transform: catalog.Transform, day: date, **other: object) -> object:
        if day == D + DAY:
            raise LakeError("the disk is full")
        return make(lake, engine, transform, day, **other)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(materialize, "materialize_date", failing)
        patch.setattr("iot_platform.assets.derived.RETRY", None)
        definitions = build_defs(settings, manifest=dbt_manifest)
        failed = run_assets(settings, *BOTH, select=[SILVER], definitions=definitions)
    assert not failed.is_success and {made.day for made in failed.made} == {D}
    assert causes(settings, dbt_manifest, SILVER, [D]) == {D: []}
    with persistent_instance(settings) as instance:
        reported = newest_tags(instance)
        whole = build_defs(settings, manifest=dbt_manifest)
        assert run_assets(settings, D, D, select=[SILVER], definitions=whole).is_success
        assert newest_tags(instance) == reported


def newest_tags(instance: dg.DagsterInstance) -> dict[str, str]:
    """The tags of Silver's newest materialization, but for the version that Dagster makes up for a group of input dates."""
    (record,) = instance.fetch_materializations(asset_key(SILVER), limit=1).records
    event = record.asset_materialization
    made_up = {"dagster/data_version", "dagster/input_data_version/bronze/readings"}
    assert event and made_up < (event.tags or {}).keys()
    return {name: value for name, value in (event.tags or {}).items() if name not in made_up}


def test_an_input_date_has_its_level_for_a_version(settings: Settings, told: SmallLake) -> None:
    levels = told.lake.snapshot("bronze/readings").sequences
    with persistent_instance(settings) as instance:
        records = instance.fetch_materializations(asset_key(BRONZE[0]), limit=10).records
    events = [record.asset_materialization for record in records]
    assert {event.partition: dict(event.tags or {}) for event in events if event} == {
        day.isoformat(): level_tags(levels[day]) for day in BOTH
    }


def test_the_newest_date_is_that_of_any_table(small: SmallLake) -> None:
    assert newest_date(small.lake) is None and outdated(small.lake) == {}
    small.day(D, 1)
    assert newest_date(small.lake) == D
    small.put("gold/sensor_health", D + DAY, [{"device_id": "d1", "event_date": D + DAY}])
    assert newest_date(small.lake) == D + DAY
    assert outdated(small.lake) == {"gold/sensor_health": [D + DAY]}  # by whom is not recorded
