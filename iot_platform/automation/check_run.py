"""Runs checks and makes nothing: one run of a range of dates, recorded like any other. What ``iot check`` does."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from iot_platform.automation.run import checked_range, execute
from iot_platform.automation.run_events import Progress, RunResult
from iot_platform.automation.selection import DBT_LAYERS, selected_checks
from iot_platform.errors import InputError
from iot_platform.settings import Settings

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class CheckRun:
    """What a run of checks found. ``is_without_marts``: their tests were left out, since no marts were built yet."""

    result: RunResult
    is_without_marts: bool


def run_checks(
    settings: Settings,
    first: date,
    last: date,
    select: Sequence[str] = (),
    *,
    on_progress: Progress | None = None,
    definitions: dg.Definitions | None = None,
) -> CheckRun:
    """Run the checks for the dates first … last (UTC, both included); those that know no dates give one result.

    ``select`` names checks (``late_rate``, ``silver/readings/late_rate``), tables or layers, or is Dagster's selection of
    assets; empty: every check, the tests of the marts when there are marts. Raises ``InputError`` for a selection, a range
    or a thresholds file that is wrong; whatever fails is in the result.
    """
    from iot_platform.assets.platform import Platform
    from iot_platform.automation.partitions import daily
    from iot_platform.automation.runs import HOST_TAG, RANGE_END, RANGE_START
    from iot_platform.checks.thresholds import load_thresholds
    from iot_platform.definitions import build_defs

    first, last = checked_range(daily(settings), first, last)
    load_thresholds(settings)  # what is wrong with it is told before anything runs
    platform = Platform(settings)
    definitions = definitions or build_defs(settings, {"platform": platform})
    keys = selected_checks(definitions, select)
    is_without_marts = False
    if not settings.marts.exists():
        made = {key for key in keys if key.asset_key.path[0] not in DBT_LAYERS}
        is_without_marts = made != keys
        keys = made
        if not keys:
            raise InputError("there are no marts to be tested yet", "Build them: `iot materialize --select marts`")
    job = definitions.resolve_implicit_global_asset_job_def()
    subset = job.get_subset(asset_selection=set(), asset_check_selection=keys)
    tags = {HOST_TAG: socket.gethostname(), RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}
    return CheckRun(execute(platform, subset, tags, on_progress), is_without_marts)
