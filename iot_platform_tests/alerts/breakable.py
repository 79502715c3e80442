"""A small graph that fails as a test wants it: dates of an asset, a check of each date, a check that blocks."""

from typing import Any

import dagster as dg

DAYS = dg.DailyPartitionsDefinition("2026-03-01", end_date="2026-03-21")
BROKEN: dict[str, Any] = {"dates": set(), "check": True, "severity": dg.AssetCheckSeverity.ERROR}
BROKEN |= {"blocking": False, "crash": False}


@dg.asset(
    key=["silver", "readings"], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run()
)
def readings(context: dg.AssetExecutionContext) -> None:
    """Fails for the dates that are broken; the others it makes."""
    bad = sorted(BROKEN["dates"] & set(context.partition_keys))
    if bad:
        for key in set(context.partition_keys) - set(bad):
            context.log_event(dg.AssetMaterialization(["silver", "readings"], partition=key))
        raise dg.Failure(f"not made: {bad}")


@dg.asset(key=["silver", "next"], deps=[readings], partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def after() -> None:
    """Made of readings."""


@dg.asset_check(asset=readings, name="late_rate", partitions_def=DAYS)
def late_rate(context: dg.AssetCheckExecutionContext) -> Any:
    for key in context.partition_keys:
        yield dg.AssetCheckEvaluation(
            asset_key=readings.key, check_name="late_rate", passed=BROKEN["check"], partition=key,
            severity=BROKEN["severity"], description=None if BROKEN["check"] else "60 % late",
        )  # fmt: skip
    yield dg.Output(None)


@dg.asset_check(asset=readings, name="gate", blocking=True)
def gate() -> dg.AssetCheckResult:
    if BROKEN["crash"]:
        raise OSError("the disk is gone")
    return dg.AssetCheckResult(passed=not BROKEN["blocking"])


# Beta and preview: as everywhere here, a range in one run and a check result a date.
DEFS = dg.Definitions(assets=[readings, after], asset_checks=[late_rate, gate])


def mend() -> None:
    """Nothing fails any more."""
    BROKEN.update(dates=set(), check=True, severity=dg.AssetCheckSeverity.ERROR, blocking=False, crash=False)
