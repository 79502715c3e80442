"""One date goes back to what it was, by a commit that rewrites nothing, and stays so until it is released."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.errors import HeldError, InputError, LakeError
from iot_platform.lake import Lake
from iot_platform.lake import rollback as rollback_module
from iot_platform.lake.erasures import write_erasure
from iot_platform.lake.levels import Levels
from iot_platform.lake.rollback import Rollback, release, roll_back, versions
from iot_platform.lake.snapshot import code_number, erased_id
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.lake.conftest import Put, p95_row
from iot_platform_tests.lake.test_tombstones import erase

TABLE = "gold/duration_p95"
D1, D2 = date(2026, 2, 27), date(2026, 2, 28)


def rows(lake: Lake, day: date = D1, version: int | None = None) -> dict[str, float]:
    found = lake.snapshot(TABLE, version).delta.to_pyarrow_table().to_pylist()
    return {row["device_type"]: row["p95"] for row in found if row["event_date"] == day}


@pytest.fixture
def history(lake: Lake, put: Put) -> list[int]:
    """Three versions of D1, with commits of D2 in between; the table versions of D1's."""
    made = [put(TABLE, D1, [p95_row(D1, "light", p95=1.0), p95_row(D1, "motion", p95=1.0)], level=1)]
    put(TABLE, D2, [p95_row(D2, "light")], level=1)
    made.append(put(TABLE, D1, [p95_row(D1, "light", p95=2.0), p95_row(D1, "heat", p95=2.0)], level=2))
    put(TABLE, D2, [p95_row(D2, "motion")], level=2)
    made.append(put(TABLE, D1, [p95_row(D1, "light", p95=3.0)], level=3))
    put(TABLE, D2, [p95_row(D2, "heat")], level=3)
    return made


def test_a_date_goes_back_to_the_version_before_and_its_neighbours_stay(lake: Lake, history: list[int]) -> None:
    done = roll_back(lake, TABLE, D1)
    assert rows(lake) == {"light": 2.0, "heat": 2.0}
    assert rows(lake, D2) == {"heat": 4.0}
    assert (done.undone.version, done.restored.version) == (history[2], history[1])
    assert done.version == lake.snapshot(TABLE).version
    assert lake.snapshot(TABLE).rows_by_date == {D1: 2, D2: 1}


def test_a_rollback_is_one_commit_and_every_earlier_version_still_reads_as_before(lake: Lake, history: list[int]) -> None:
    before = lake.snapshot(TABLE).version
    roll_back(lake, TABLE, D1, history[0])
    assert lake.snapshot(TABLE).version == before + 1
    assert rows(lake) == rows(lake, version=history[0]) == {"light": 1.0, "motion": 1.0}
    assert rows(lake, version=before) == {"light": 3.0}
    assert lake.snapshot(TABLE).is_held(D1) and not lake.snapshot(TABLE).is_held(D2)
    assert not lake.snapshot(TABLE, before).is_held(D1)


def test_any_version_of_the_table_names_the_one_of_the_date_that_stood_then(lake: Lake, history: list[int]) -> None:
    assert roll_back(lake, TABLE, D1, history[1] + 1).restored.version == history[1]
    assert rows(lake) == {"light": 2.0, "heat": 2.0}


def test_it_says_what_is_undone(lake: Lake, history: list[int]) -> None:
    found = roll_back(lake, TABLE, D1, is_dry_run=True).comparison
    assert (found.rows_before, found.rows_after, found.added, found.removed, found.changed) == (1, 2, 1, 0, 1)
    shown = {example.change: (example.key, example.before, example.after) for example in found.examples}
    assert shown["changed"] == ({"device_type": "light"}, {"p95": 3.0}, {"p95": 2.0})
    assert shown["added"][0] == {"device_type": "heat"} and shown["added"][2]["p95"] == 2.0
    back = roll_back(lake, TABLE, D1, history[0], is_dry_run=True).comparison
    assert (back.added, back.removed, back.changed) == (1, 0, 1)


def test_rows_that_only_another_run_wrote_are_no_change(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1)], level=1)
    put(TABLE, D1, [p95_row(D1, pipeline_version="other")], level=2)
    found = roll_back(lake, TABLE, D1).comparison
    assert (found.rows_after, found.added, found.removed, found.changed, found.examples) == (1, 0, 0, 0, ())
    assert lake.snapshot(TABLE).delta.to_pyarrow_table().column("pipeline_version").to_pylist() == ["t"]


def test_the_noise_of_floats_is_no_change_and_what_is_more_than_noise_is_one(lake: Lake, put: Put) -> None:
    def named(name: str, mean: float | None, **other: object) -> dict[str, object]:
        return p95_row(D1, name, mean=mean, **other)

    big, nan = 21.30505494505495, float("nan")
    put(TABLE, D1, [named("noise", big), named("more", big), named("none", None), named("nan", nan), named("inf", nan),
                    named("both", big), named("exact", big)], level=1)  # fmt: skip
    put(TABLE, D1, [named("noise", 21.305054945054945), named("more", big * (1 + 1e-8)), named("none", 0.0),
                    named("nan", nan), named("inf", float("inf")), named("both", 21.305054945054945, p95=4.1),
                    named("exact", big, events=501)], level=2)  # fmt: skip
    found = roll_back(lake, TABLE, D1, is_dry_run=True).comparison
    assert (found.added, found.removed, found.changed) == (0, 0, 5)
    shown = {example.key["device_type"]: example.before for example in found.examples}
    assert shown == {"both": {"p95": 4.1}, "exact": {"events": 501}, "inf": {"mean": float("inf")}}


def test_examples_are_few_of_each_kind(lake: Lake, put: Put) -> None:
    for level, names in ((1, ("old", "both")), (2, ("new", "both"))):
        put(TABLE, D1, [p95_row(D1, f"{name}{n}", p95=float(level)) for name in names for n in range(9)], level=level)
    found = roll_back(lake, TABLE, D1, is_dry_run=True).comparison
    assert (found.added, found.removed, found.changed) == (9, 9, 9)
    assert [example.change for example in found.examples] == ["added"] * 3 + ["changed"] * 3 + ["removed"] * 3


def test_a_dry_run_commits_nothing(lake: Lake, history: list[int]) -> None:
    before = lake.snapshot(TABLE).version
    assert roll_back(lake, TABLE, D1, is_dry_run=True).version is None
    assert lake.snapshot(TABLE).version == before and not lake.snapshot(TABLE).held_days


def test_what_reads_the_date_becomes_older_than_its_input(lake: Lake, history: list[int]) -> None:
    level = lake.snapshot(TABLE).recorded_level(D1)
    roll_back(lake, TABLE, D1)
    assert lake.snapshot(TABLE).recorded_level(D1) == level + 1
    assert lake.snapshot(TABLE).recorded_level(D2) == 3


def test_nobody_writes_a_held_date_until_it_is_released(lake: Lake, put: Put, history: list[int]) -> None:
    roll_back(lake, TABLE, D1)
    with pytest.raises(HeldError, match="--release"):
        put(TABLE, D1, [p95_row(D1, "fire")], level=1_000)
    put(TABLE, D2, [p95_row(D2, "fire")], level=1_000)
    release(lake, TABLE, D1)
    put(TABLE, D1, [p95_row(D1, "fire")], level=1_000)
    assert rows(lake) == {"fire": 4.0}


def test_two_rollbacks_need_one_release_and_each_can_be_undone(lake: Lake, history: list[int]) -> None:
    roll_back(lake, TABLE, D1)
    roll_back(lake, TABLE, D1, history[0])
    assert rows(lake) == {"light": 1.0, "motion": 1.0}
    roll_back(lake, TABLE, D1, history[2])
    assert rows(lake) == {"light": 3.0} and lake.snapshot(TABLE).held_days == (D1,)
    release(lake, TABLE, D1)
    assert not lake.snapshot(TABLE).held_days
    levels = Levels(lake)
    assert levels.needed(TRANSFORMS[TABLE], D1) > levels.recorded(TABLE, D1), "the release asks for the date"


def test_only_what_is_held_can_be_released(lake: Lake, history: list[int]) -> None:
    with pytest.raises(InputError, match="is not held"):
        release(lake, TABLE, D1)
    roll_back(lake, TABLE, D1)
    release(lake, TABLE, D1)
    with pytest.raises(InputError, match="is not held"):
        release(lake, TABLE, D1)
    with pytest.raises(InputError, match="is not held"):
        release(lake, "gold/sensor_health", D1)


def test_the_versions_of_a_date_are_those_that_changed_it(lake: Lake, history: list[int]) -> None:
    roll_back(lake, TABLE, D1, reason="wrong thresholds")
    lake.force(TABLE, D1)
    lake.writable(TABLE).delta.optimize.compact()
    known = versions(lake, TABLE, D1)
    assert [one.version for one in known] == [history[2] + 2, *reversed(history)]
    assert known[0].metadata["rolled_back"] == {
        "undone": history[2], "restored": history[1], "reason": "wrong thresholds"
    }
    assert all(one.at for one in known)


def test_merged_files_are_no_version_and_can_be_put_back_too(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1, "light")], level=1)
    lake.writable(TABLE).delta.optimize.compact()
    second = put(TABLE, D1, [p95_row(D1, "motion")], level=2)
    assert roll_back(lake, TABLE, D1).undone.version == second
    assert rows(lake) == {"light": 4.0}


def test_rows_deleted_by_others_are_a_version(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1, "light"), p95_row(D1, "motion")], level=1)
    lake.writable(TABLE).delta.delete("device_type = 'light'")
    assert [one.operation for one in versions(lake, TABLE, D1)] == ["DELETE", "WRITE"]
    assert rows(lake) == {"motion": 4.0}


def test_a_rolled_back_date_is_of_the_code_that_made_its_rows(lake: Lake) -> None:
    for level, code in ((1, "00aa"), (2, "00bb")):
        content = pa.Table.from_pylist([p95_row(D1, p95=level)], schema=arrow_schema(lake.contract(TABLE)))
        metadata = {"code_version": code, "engine": "duckdb"}
        lake.replace(TABLE, D1, content.to_reader(), level=level, inputs={}, metadata=metadata)
    assert lake.snapshot(TABLE).is_made_by(D1, "00bb")
    roll_back(lake, TABLE, D1)
    assert lake.snapshot(TABLE).is_made_by(D1, "00aa") and code_number("00aa") != code_number("00bb")


def test_files_that_maintenance_removed_are_missed_before_anything_is_done(lake: Lake, history: list[int]) -> None:
    for path in lake.snapshot(TABLE, history[0]).files([D1]):
        Path(path).unlink()
    before = lake.snapshot(TABLE).version
    with pytest.raises(LakeError, match=f"removed by maintenance. The oldest version possible is {history[1]}"):
        roll_back(lake, TABLE, D1, history[0])
    for path in lake.snapshot(TABLE, history[1]).files([D1]):
        Path(path).unlink()
    with pytest.raises(LakeError, match="No earlier version of the date is left"):
        roll_back(lake, TABLE, D1)
    assert lake.snapshot(TABLE).version == before


def test_a_date_made_before_the_logs_clean_up_can_be_put_back_to(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1, "light")], level=1)
    put(TABLE, D2, [p95_row(D2, "light")], level=1)
    lake.writable(TABLE).delta.create_checkpoint()
    kept = lake.snapshot(TABLE).version
    put(TABLE, D1, [p95_row(D1, "motion")], level=2)
    for commit in (Path(lake.path(TABLE)) / "_delta_log").glob("0*.json"):
        if int(commit.stem) < kept:
            commit.unlink()
    fresh = Lake(lake.settings)
    assert [one.metadata.get("level") for one in versions(fresh, TABLE, D1)] == [2, None]
    with pytest.raises(InputError, match="nothing is known of it at version 0"):
        roll_back(fresh, TABLE, D1, 0)
    roll_back(fresh, TABLE, D1)
    assert rows(fresh) == {"light": 4.0}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("bronze/readings", "put back what is made of it"),
        ("bronze/quarantine", "iot quarantine"),
        ("registry/devices", "correct your devices"),
        ("ops/check_results", "a record of what happened"),
        ("gold/none", "there is no table"),
        ("silver/readings", "was never made"),
    ],
)
def test_a_table_that_cannot_be_meant_says_what_to_do_instead(lake: Lake, table: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        roll_back(lake, table, D1)


def test_a_version_that_cannot_be_meant_is_refused(lake: Lake, put: Put, history: list[int]) -> None:
    newest = lake.snapshot(TABLE).version
    wrong = {newest + 1: "no version", newest: "has it already", history[2]: "has it already", 0: "nothing is known"}
    for to, says in wrong.items():
        with pytest.raises(InputError, match=says):
            roll_back(lake, TABLE, D1, to)
    with pytest.raises(InputError, match="was never made"):
        roll_back(lake, TABLE, D1 - timedelta(days=9))
    put(TABLE, date(2026, 3, 1), [], level=1)
    with pytest.raises(InputError, match="the only one there is"):
        roll_back(lake, TABLE, date(2026, 3, 1))
    assert lake.snapshot(TABLE).version == newest + 1


def test_of_a_date_that_another_run_makes_meanwhile_nothing_is_undone(
    lake: Lake, put: Put, history: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = rollback_module.compare

    def slow(*arguments: object) -> object:
        found = compare(*arguments)  # pyright: ignore[reportArgumentType]
        put(TABLE, D1, [p95_row(D1, "fire")], level=50)
        return found

    monkeypatch.setattr(rollback_module, "compare", slow)
    with pytest.raises(LakeError, match="made again meanwhile"):
        roll_back(lake, TABLE, D1)
    assert rows(lake) == {"fire": 4.0} and not lake.snapshot(TABLE).held_days


def test_a_commit_of_another_date_in_between_is_no_obstacle(
    lake: Lake, put: Put, history: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = rollback_module._properties
    others = iter([D2, date(2026, 3, 1)])

    def late(*arguments: object) -> object:
        if day := next(others, None):
            put(TABLE, day, [p95_row(day, "fire")], level=50)  # between the look and the commit
        return properties(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(rollback_module, "_properties", late)
    done = roll_back(lake, TABLE, D1)
    assert isinstance(done, Rollback) and rows(lake) == {"light": 2.0, "heat": 2.0} and rows(lake, D2) == {"fire": 4.0}


def test_only_the_commit_that_was_meant_is_undone(lake: Lake, history: list[int]) -> None:
    with pytest.raises(LakeError, match="changed again meanwhile"):
        roll_back(lake, TABLE, D1, undo=history[1])
    assert roll_back(lake, TABLE, D1, undo=history[2]).restored.version == history[1]


def test_a_disk_that_takes_nothing_changes_nothing(
    lake: Lake, history: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rollback_module, "write_deltalake", full)
    with pytest.raises(LakeError, match="No space left"):
        roll_back(lake, TABLE, D1)
    assert rows(lake) == {"light": 3.0} and not lake.snapshot(TABLE).held_days


def test_a_date_can_go_back_to_no_rows_and_is_held_then_too(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [], level=1)
    put(TABLE, D1, [p95_row(D1)], level=2)
    roll_back(lake, TABLE, D1)
    assert lake.snapshot(TABLE).rows_by_date == {} and lake.snapshot(TABLE).held_days == (D1,)


def test_maintenance_leaves_a_held_date_held_and_readable(lake: Lake, history: list[int]) -> None:
    roll_back(lake, TABLE, D1)
    delta = lake.writable(TABLE).delta
    delta.optimize.compact()
    delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
    delta.create_checkpoint()
    delta.cleanup_metadata()
    fresh = Lake(lake.settings)
    assert rows(fresh) == {"light": 2.0, "heat": 2.0}
    assert fresh.snapshot(TABLE).held_days == (D1,)


def test_an_erased_device_does_not_come_back_by_a_rollback(lake: Lake, put: Put) -> None:
    def row(device: str) -> dict[str, object]:
        return {"device_id": device, "metric": "temperature", "event_date": D1, "readings": 1}

    table = "gold/daily_summary"
    put(table, D1, [row("d1"), row("o'd2"), row("d3")], level=1)
    put(table, D1, [row("d3")], level=2)
    erase(lake, "o'd2")
    roll_back(lake, table, D1)
    erase(lake, "d9")  # of which there was never a row
    release(lake, table, D1)
    roll_back(lake, table, D1, 1)
    assert set(lake.snapshot(table).delta.to_pyarrow_table().column("device_id").to_pylist()) == {"d1", "d3"}


def test_a_version_from_before_an_erasure_is_told_where_it_may_sum_up_the_device(lake: Lake, history: list[int]) -> None:
    first = lake.snapshot(TABLE).delta.history()[0]["timestamp"] / 1000
    row = erase(lake, "dev-1")  # long ago
    assert not roll_back(lake, TABLE, D1, is_dry_run=True).is_before_erasure, "no reading of the date went"
    lake.commit_transaction(lake.writable("bronze/readings"), erased_id(D1), 3)
    assert not roll_back(lake, TABLE, D1, is_dry_run=True).is_before_erasure, "made after it"
    write_erasure(lake, replace(row, requested_at=datetime.fromtimestamp(first + 1, UTC)))
    assert not roll_back(lake, TABLE, D2, is_dry_run=True).is_before_erasure
    done = roll_back(lake, TABLE, D1, history[0])
    assert done.is_before_erasure and done.version
    write_erasure(lake, replace(row, requested_at=datetime.fromtimestamp(first + 0.001, UTC)))
    assert roll_back(lake, TABLE, D1, history[1]).is_before_erasure
    assert roll_back(lake, TABLE, D1, done.version, is_dry_run=True).is_before_erasure, "its rows are as old as they were"
