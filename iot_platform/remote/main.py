"""The program that a cluster runs: ``python -m iot_platform.remote.main --table silver/readings --dates 2026-03-10``.

It makes the dates as an asset's step would, with the engine and lake of its environment (``IOT_…``), and tells each as it is
done: to Dagster through Pipes and a bucket where Dagster launched it, and on the standard output always. It needs neither
Dagster nor Kafka, and runs by hand as well. Exit code 0: all dates stand; 1: some failed; 2: wrong use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime

from dagster_pipes import (
    PipesContext,
    PipesEnvVarParamsLoader,
    PipesS3ContextLoader,
    PipesS3MessageWriter,
    open_dagster_pipes,
)

from iot_platform.engines import open_engine
from iot_platform.engines.materialize import DateResult, materialize_date
from iot_platform.engines.ranges import RangeResult, make_range
from iot_platform.errors import PlatformError
from iot_platform.lake import Lake
from iot_platform.remote.bucket import s3_client
from iot_platform.remote.job import Job, job_of
from iot_platform.remote.report import message
from iot_platform.settings import Settings, load_settings

MESSAGE_SECONDS = 2.0  # between two looks whether there is something to tell
Tell = Callable[[date, DateResult | PlatformError], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of a command line; the exit code."""
    try:
        job = job_of(arguments, datetime.now(UTC))
        settings = load_settings()
        with telling(settings) as tell:
            result = run(settings, job, tell)
    except PlatformError as error:
        print(f"✗ {error}", file=sys.stderr)
        return error.exit_code
    return 1 if result.failed else 0


def run(settings: Settings, job: Job, tell: Tell) -> RangeResult:
    """Make the job's dates, oldest first; each is told as it is done."""
    lake = Lake(settings)
    engine = open_engine(settings)
    try:
        return make_range(
            job.days,
            lambda day: materialize_date(lake, engine, job.transform, day, force=job.forces(day), now=job.now),
            tell,
        )
    finally:
        engine.close()


@contextmanager
def telling(settings: Settings) -> Iterator[Tell]:
    """Where messages go: the standard output, and Dagster if it launched this process."""
    if not PipesEnvVarParamsLoader().is_dagster_pipes_process():
        yield _say
        return
    client = s3_client(settings)
    writer = PipesS3MessageWriter(client, interval=MESSAGE_SECONDS)
    with open_dagster_pipes(context_loader=PipesS3ContextLoader(client), message_writer=writer) as pipes:
        yield lambda day, outcome: _tell(pipes, day, outcome)


def _say(day: date, outcome: DateResult | PlatformError) -> None:
    print(json.dumps(message(day, outcome), sort_keys=True), flush=True)


def _tell(pipes: PipesContext, day: date, outcome: DateResult | PlatformError) -> None:
    _say(day, outcome)
    pipes.report_custom_message(message(day, outcome))
    if isinstance(outcome, DateResult):
        pipes.log.info(f"{outcome.table} {day}: {outcome.rows} rows, version {outcome.version}, {outcome.seconds:.1f} s")
    else:
        pipes.log.error(f"{day}: {outcome}")


if __name__ == "__main__":
    sys.exit(main())
