"""`iot materialize` after code changed: everything since a date, or only what other code made; options that contradict."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from iot_platform.cli.materialize import chosen, unbuilt_range
from iot_platform.errors import InputError
from iot_platform.lake import Lake
from iot_platform.lake.outdated import outdated
from iot_platform.settings import Settings
from iot_platform.transforms import catalog
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake
from iot_platform_tests.cli.conftest import Iot, Ran

REJECTED, SILVER = "silver/rejected_readings", "silver/readings"


@pytest.fixture(autouse=True)
def _parsed_once(dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iot_platform.definitions.dbt_manifest", lambda _settings: dbt_manifest)


@pytest.fixture
def small(settings: Settings) -> SmallLake:
    lake = SmallLake(Lake(settings))
    lake.day(D, 4)
    lake.day(D + DAY, 4)
    return lake


def made(ran: Ran) -> set[tuple[str, str]]:
    assert ran.code == 0, ran.err
    return {(one["asset"], one["event_date"]) for one in ran.json["materialized"]}


def version(settings: Settings, table: str) -> int:
    return Lake(settings).snapshot(table).version


def test_everything_since_a_date_is_made_again_and_what_other_code_made_alone(
    iot: Iot, settings: Settings, small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, newest = (D.isoformat(), (D + DAY).isoformat()), (D + DAY).isoformat()
    wanted = ("--select", "silver", "--json")
    all_of_it = made(iot("materialize", "--since", D.isoformat(), "--select", "registry", *wanted))
    assert {one for one in all_of_it if one[1]} == {(table, day) for table in (SILVER, REJECTED) for day in both}
    before = version(settings, SILVER)
    assert made(iot("materialize", "--since", newest, *wanted)) == {(SILVER, newest), (REJECTED, newest)}
    assert version(settings, SILVER) > before  # made again though nothing moved

    written, changed = catalog._text, "silver_rejected_readings"
    monkeypatch.setattr(catalog, "_text", lambda view: written(view) + ("\n-- new" if view == changed else ""))
    assert outdated(small.lake) == {REJECTED: [D, D + DAY]}
    before = version(settings, SILVER)
    made(iot("materialize", "--outdated", "--since", newest, *wanted))
    assert outdated(small.lake) == {REJECTED: [D]}
    made(iot("materialize", "--outdated", *wanted))
    assert outdated(small.lake) == {}
    assert version(settings, SILVER) == before  # its code is what it was
    nothing = iot("materialize", "--outdated", "--since", "2026-03-12")
    assert "as new as what it is made from and as its code" in nothing.out
    assert iot("materialize", "--outdated", "--since", "2026-03-12", "--json").json["materialized"] == []


@pytest.mark.parametrize(
    ("days", "since", "is_outdated", "said"),
    [
        ((D, D), "2026-03-10", False, "Leave out --since"),
        ((D, D), None, True, "Leave out --outdated"),
        (None, "someday", False, "--since 'someday' is no date"),
        (None, "2026-04-01", False, "The newest date is 2026-03-11"),
    ],
)
def test_options_that_contradict_and_dates_after_all_data_are_refused(
    settings: Settings,
    small: SmallLake,
    *,
    days: tuple[date, date] | None,
    since: str | None,
    is_outdated: bool,
    said: str,
) -> None:
    with pytest.raises(InputError) as refused:
        chosen(settings, days, since, outdated=is_outdated)
    assert said in f"{refused.value} {refused.value.todo}"


def test_an_empty_lake_has_nothing_since_any_date(settings: Settings) -> None:
    with pytest.raises(InputError, match="there is no data since 2026-03-10"):
        chosen(settings, None, "2026-03-10", outdated=False)


def test_marts_that_were_never_built_are_made_of_all_dates_though_no_table_is_stale(
    settings: Settings, small: SmallLake
) -> None:
    everything = ("registry", "silver", "gold", "staging", "marts")
    assert unbuilt_range(settings, everything) is None  # there is no Gold yet
    for day in (D, D + 2 * DAY):
        small.put("gold/sensor_health", day, [{"device_id": "d1", "event_date": day}])
    assert unbuilt_range(settings, everything) == (D, D + 2 * DAY)
    assert unbuilt_range(settings, ("staging/stg_registry__devices",)) == (D, D + 2 * DAY)
    assert unbuilt_range(settings, ("silver", "gold")) is None
    settings.marts.parent.mkdir(parents=True)
    settings.marts.touch()
    assert unbuilt_range(settings, everything) is None
