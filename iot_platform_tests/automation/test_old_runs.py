"""Old runs are forgotten, but for those that the UI and the sensors still read something newest from."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from iot_platform.automation.old_runs import Forgotten, forget_old_runs

KEY = dg.AssetKey(["silver", "readings"])
CHECK = dg.AssetCheckKey(KEY, "contract")
MONTH = timedelta(days=30)
LATER = timedelta(days=31)


@dg.asset(key=KEY)
def readings() -> None: ...


@dg.asset_check(asset=KEY)
def contract() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def run(instance: dg.DagsterInstance, *, asset: bool, check: bool) -> str:
    """One run of the asset, of its check, or of both; its id."""
    job = dg.Definitions(assets=[readings], asset_checks=[contract]).resolve_implicit_global_asset_job_def()
    part = job.get_subset(
        asset_selection={KEY} if asset else None, asset_check_selection={CHECK} if check else set[dg.AssetCheckKey]()
    )
    return part.execute_in_process(instance=instance).run_id


def left(instance: dg.DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_what_was_made_again_and_checked_again_is_forgotten(instance: dg.DagsterInstance) -> None:
    first = run(instance, asset=True, check=True)
    second = run(instance, asset=True, check=False)
    now = datetime.now(UTC)
    assert forget_old_runs(instance, now, MONTH) == Forgotten(0, 0)  # nothing is old yet
    assert forget_old_runs(instance, now + LATER, MONTH) == Forgotten(0, 2)  # the first one evaluated the check last
    third = run(instance, asset=False, check=True)
    assert forget_old_runs(instance, datetime.now(UTC) + LATER, MONTH) == Forgotten(1, 2)
    assert left(instance) == {second, third} and first not in left(instance)
    newest = instance.get_latest_materialization_event(KEY)
    assert newest and newest.run_id == second


def test_what_there_is_no_time_for_is_forgotten_the_next_time(instance: dg.DagsterInstance) -> None:
    for _ in range(2):
        run(instance, asset=True, check=True)
    later = datetime.now(UTC) + LATER
    assert forget_old_runs(instance, later, MONTH, most_seconds=0) == Forgotten(0, 0)
    assert forget_old_runs(instance, later, MONTH) == Forgotten(1, 1)
