"""Runs assets in this process, as one run of a range of dates, recorded where Dagster's UI finds it later.

What the command line and the demo use; ``dagster dev`` and its daemon run the same assets on their own.
What a run says stands in ``run_events``, what words select in ``selection``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from typing import TYPE_CHECKING
from uuid import uuid4

from iot_platform.automation.run_events import Progress, RunResult, listening
from iot_platform.automation.selection import selected
from iot_platform.errors import InputError, PlatformError, ServiceError
from iot_platform.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from iot_platform.assets.platform import Platform

LAYERS = ("registry", "silver", "gold", "staging", "marts")  # what is made from Bronze


def run_assets(
    settings: Settings,
    first: date | None = None,
    last: date | None = None,
    select: Sequence[str] = LAYERS,
    *,
    force: bool = True,
    on_progress: Progress | None = None,
    definitions: dg.Definitions | None = None,
) -> RunResult:
    """Materialize the selected assets, with their checks, for the dates first … last (UTC, both included), in one run.

    ``select`` names layers (``gold``), tables (``gold/sensor_health``) or is Dagster's own selection syntax. ``force``
    makes dates again that are up to date. Raises ``InputError`` for a selection or a range that does not exist; a step that
    fails is in the result. The run stands in ``$IOT_HOME/dagster``, its log in ``$IOT_HOME/logs/dagster``.
    """
    import dagster as dg

    from iot_platform.assets.derived import LEVEL_TAG
    from iot_platform.assets.platform import Platform
    from iot_platform.automation.runs import HOST_TAG, RANGE_END, RANGE_START
    from iot_platform.definitions import build_defs

    platform = Platform(settings)
    definitions = definitions or build_defs(settings, {"platform": platform})
    job = definitions.resolve_implicit_global_asset_job_def()
    keys = selected(definitions, select)
    partitioned = [key for key in keys if job.asset_layer.get(key).partitions_def]
    tags = {HOST_TAG: socket.gethostname()} | ({} if force else {LEVEL_TAG: "asked for by hand"})
    if partitioned:
        partitions = job.asset_layer.get(partitioned[0]).partitions_def
        assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
        first, last = checked_range(partitions, first, last)
        tags |= {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}
    return execute(platform, job, tags, on_progress, keys)


def execute(
    platform: Platform,
    job: dg.JobDefinition,
    tags: Mapping[str, str],
    on_progress: Progress | None = None,
    assets: Sequence[dg.AssetKey] | None = None,
) -> RunResult:
    """Run the job to its end, recorded in Dagster, and add its check results to their history.

    ``assets``: only these of it. The record names them, so that sensors ask for nothing that is being made.
    """
    from iot_platform.assets.check_results import collected_event
    from iot_platform.checks import history

    run_id = str(uuid4())
    log = platform.settings.logs / "dagster" / f"{run_id}.log"
    result = RunResult(run_id, log=log)
    with persistent_instance(platform.settings) as instance, listening(instance, result, log, on_progress):
        finished = job.execute_in_process(
            instance=instance,
            tags=tags,
            run_id=run_id,
            asset_selection=assets,
            raise_on_error=False,
            # The log goes to its file; the terminal belongs to the caller.
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        stats = instance.get_run_stats(run_id)
        with suppress(PlatformError):  # the run is done; what could not be added now the next look adds
            collected = history.collect(platform.lake, instance)
            if collected.rows:
                instance.report_runless_asset_event(collected_event(platform, collected))
    platform.close()
    result.is_success = finished.success
    if stats.start_time and stats.end_time:
        result.seconds = stats.end_time - stats.start_time
    return result


def checked_range(
    partitions: dg.TimeWindowPartitionsDefinition, first: date | None, last: date | None
) -> tuple[date, date]:
    """The range, if all of its dates are partitions."""
    if first is None or last is None:
        raise InputError("no dates were given", "Say from which date to which")
    if first > last:
        raise InputError(f"the first date {first} is after the last {last}", "Turn them round")
    oldest = date.fromisoformat(partitions.get_first_partition_key() or "")
    newest = date.fromisoformat(partitions.get_last_partition_key() or "")
    if first < oldest or last > newest:
        raise InputError(
            f"the dates {first} … {last} go beyond the partitions, {oldest} … {newest}",
            "Choose dates in between, or set IOT_FIRST_DATE",
        )
    return first, last


@contextmanager
def persistent_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Dagster's own record of this ``IOT_HOME``. Raises ``ServiceError`` when its PostgreSQL, if any, does not answer."""
    import dagster as dg
    from sqlalchemy.exc import SQLAlchemyError

    from iot_platform.local.dagster_home import POSTGRES_URL, prepare_dagster_home

    home = str(prepare_dagster_home(settings))
    try:
        opened = dg.DagsterInstance.from_config(home)
    except Exception as error:
        # Of the driver's text nothing is shown: it may repeat the address, which holds a password.
        if isinstance(error, SQLAlchemyError) or isinstance(error.__cause__, SQLAlchemyError):
            raise ServiceError(
                f"the database of Dagster's history does not answer ({type(error.__cause__ or error).__name__})",
                f"Start it, or correct {POSTGRES_URL}",
            ) from None
        raise
    with opened as instance:
        yield instance
