"""`iot rollback` as a person and a program see it: versions, what is undone, what holds, what lets go."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from iot_platform.automation.run import persistent_instance
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform_tests.assets.small_lake import D, SmallLake
from iot_platform_tests.cli.conftest import Iot
from iot_platform_tests.lake.conftest import Put, lake, p95_row, put

__all__ = ["lake", "put"]  # fixtures

TABLE, REJECTED = "gold/duration_p95", "silver/rejected_readings"
DAY = date(2026, 2, 27)
MEANT = ("rollback", "--table", TABLE, "--date", DAY.isoformat())


@pytest.fixture
def filled(lake: Lake, put: Put) -> Lake:
    put(TABLE, DAY, [p95_row(DAY, "light", p95=1.0), p95_row(DAY, "motion")], level=1)
    put(TABLE, DAY, [p95_row(DAY, "light", p95=2.0)], level=2)
    return lake


def test_a_person_sees_the_versions_what_would_be_undone_and_how_to_let_go(iot: Iot, filled: Lake) -> None:
    shown = iot(*MEANT, "--list")
    assert shown.code == 0 and "stands now" in shown.out and "possible" in shown.out
    shown = iot(*MEANT, "--dry-run")
    assert "Nothing was committed" in shown.out and "changed: light" in shown.out and "p95=2.0" in shown.out
    assert not filled.snapshot(TABLE).held_days
    done = iot(*MEANT, "--reason", "a wrong sigma")
    assert (done.code, done.err) == (0, "") and "--release" in done.out
    assert f"held by a rollback: {TABLE} {DAY}" in iot("status").out
    assert "rollback to 1: a wrong" in " ".join(iot(*MEANT, "--list").out.split())
    assert "is released" in iot(*MEANT, "--release").out
    assert "held" not in iot("status").out


def test_a_program_gets_the_same_as_objects(iot: Iot, filled: Lake) -> None:
    newest, first = iot(*MEANT, "--list", "--json").json
    assert (newest["version"], newest["rows"], newest["level"], newest["is_current"]) == (2, 1, 2, True)
    assert (first["version"], first["rows"], first["is_possible"], first["is_held"]) == (1, 2, True, False)
    assert first["committed_at"].endswith("Z")
    done = iot(*MEANT, "--to", "1", "--json").json
    assert done["examples"][0] == {
        "change": "added", "key": {"device_type": "motion"}, "before": {},
        "after": {"events": 500, "excluded": 1, "mean": 2.0, "std": 1.0, "p95": 4.0},
    }  # fmt: skip
    del done["examples"]
    assert done == {
        "table": TABLE, "event_date": "2026-02-27", "undone_version": 2, "restored_version": 1, "version": 3, "held": True,
        "before_erasure": False, "rows_before": 1, "rows_after": 2, "added": 1, "removed": 0, "changed": 1,
    }  # fmt: skip
    assert iot("status", "--json").json["held"] == {TABLE: ["2026-02-27"]}
    assert iot(*MEANT, "--list", "--json").json[0]["is_held"]
    released = iot(*MEANT, "--release", "--json").json
    assert released == {"table": TABLE, "event_date": "2026-02-27", "version": 4, "held": False}


def test_dagster_shows_what_was_undone_and_warns_of_the_held_date(iot: Iot, filled: Lake, settings: Settings) -> None:
    key = dg.AssetKey(TABLE.split("/"))
    iot(*MEANT)
    with persistent_instance(settings) as instance:
        (seen,) = instance.fetch_observations(key, limit=9).records
        assert seen.partition_key == "2026-02-27" and seen.asset_observation
        assert seen.asset_observation.metadata["keys_added"].value == 1
        (check,) = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key, "no_date_is_held"), limit=9
        )
        assert check.status.value == "FAILED"
    iot(*MEANT, "--release")
    with persistent_instance(settings) as instance:
        found = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key, "no_date_is_held"), limit=1
        )
        assert found[0].status.value == "SUCCEEDED"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--table", "bronze/readings", "--date", "2026-02-27"), "put back what is made of it"),
        (("--table", TABLE, "--date", "soon"), "is no date"),
        (("--table", TABLE, "--date", "2026-02-27", "--release"), "is not held"),
        (("--table", TABLE, "--date", "2026-02-27", "--release", "--to", "1"), "contradict"),
        (("--table", TABLE, "--date", "2026-02-27", "--to", "99"), "no version 99"),
    ],
)
def test_wrong_use_is_one_line(iot: Iot, filled: Lake, arguments: tuple[str, ...], says: str) -> None:
    ran = iot("rollback", *arguments)
    assert ran.code == 2 and says in ran.err and len(ran.err.strip().splitlines()) == 1


def test_files_that_are_gone_are_a_failure_and_one_line(iot: Iot, filled: Lake) -> None:
    for path in filled.snapshot(TABLE, 1).files([DAY]):
        Path(path).unlink()
    assert "files removed" in iot(*MEANT, "--list").out
    ran = iot(*MEANT)
    assert ran.code == 1 and "removed by maintenance" in ran.err and len(ran.err.strip().splitlines()) == 1


def test_whoever_makes_a_held_date_by_hand_is_told_in_a_line_how_to_release_it(
    iot: Iot, settings: Settings, dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iot_platform.definitions.dbt_manifest", lambda _settings: dbt_manifest)
    small = SmallLake(Lake(settings))
    small.day(D, 4)
    made = ("materialize", "--from", D.isoformat(), "--select", REJECTED)
    for _ in range(2):
        assert iot(*made).code == 0
    assert iot("rollback", "--table", REJECTED, "--date", D.isoformat()).code == 0
    before = small.lake.snapshot(REJECTED).version
    ran = iot(*made, "--json")
    (line,) = [line for line in ran.err.splitlines() if "held" in line]
    assert ran.code == 0 and f"iot rollback --table {REJECTED} --date {D} --release" in line
    assert ran.json["held"] == [{"asset": REJECTED, "event_date": D.isoformat()}] and ran.json["materialized"] == []
    assert Lake(settings).snapshot(REJECTED).version == before
