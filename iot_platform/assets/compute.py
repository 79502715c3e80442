"""Where a step makes its dates: in this process by the platform's engine, or by one job on AWS.

Both give the same: what became of each date (UTC), a failed one with its error.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import dagster as dg

    from iot_platform.assets.platform import Platform
    from iot_platform.engines.ranges import RangeResult
    from iot_platform.remote.launch import Launcher
    from iot_platform.transforms.catalog import Transform


class Compute(Protocol):
    """Makes dates of one table. The platform's own errors are kept for the end, date by date; a defect rises.

    ``force`` makes up-to-date dates again, but not those of ``made``: an earlier attempt of the step made them.
    """

    def make(
        self, context: dg.AssetExecutionContext, transform: Transform, days: Sequence[date], *, force: bool, now: datetime,
        made: Collection[date] = (),
    ) -> RangeResult: ...  # fmt: skip


class LocalCompute:
    """By the platform's engine, in this process."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def make(
        self, context: dg.AssetExecutionContext, transform: Transform, days: Sequence[date], *, force: bool, now: datetime,
        made: Collection[date] = (),
    ) -> RangeResult:  # fmt: skip
        from iot_platform.engines.materialize import materialize_date
        from iot_platform.engines.ranges import make_range

        platform = self.platform
        return make_range(
            days,
            lambda day: materialize_date(
                platform.lake, platform.engine, transform, day, force=force and day not in made, now=now,
                run_id=context.run.run_id,
            ),
        )


class RemoteCompute:
    """By one job for all of the step's dates; each date is reported as the job told of it."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def make(
        self, context: dg.AssetExecutionContext, transform: Transform, days: Sequence[date], *, force: bool, now: datetime,
        made: Collection[date] = (),
    ) -> RangeResult:  # fmt: skip
        from iot_platform.errors import PlatformError, ServiceError
        from iot_platform.remote.job import Job
        from iot_platform.remote.report import range_result

        job = Job(transform.table, tuple(days), force, now, tuple(sorted(made)))
        try:
            told, error = self.launcher.run(context, job)
        except PlatformError as refused:  # nothing was launched
            told, error = (), refused
        silent = ServiceError("the job ended without a word on this date", "Look at its log: see docs/cluster.md.")
        return range_result(told, days, error or silent)


def compute_of(platform: Platform) -> Compute:
    """What ``IOT_COMPUTE`` names."""
    if platform.settings.compute == "local":
        return LocalCompute(platform)
    from iot_platform.remote.launch import Launcher

    return RemoteCompute(Launcher(platform.settings))


def platform_resources(settings: Any) -> dict[str, Any]:
    """The resource ``platform``, and ``spark`` where the engine is Spark in this process."""
    from iot_platform.assets.platform import Platform

    if settings.engine != "spark" or settings.compute != "local":
        return {"platform": Platform(settings)}
    from iot_platform.assets.spark_session import spark_resource

    spark = spark_resource(settings)
    return {"platform": Platform(settings, spark), "spark": spark}
