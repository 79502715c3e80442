"""Runs assets in this process, as one run of a range of dates, recorded where Dagster's UI finds it later.

What the command line and the demo use; ``dagster dev`` and its daemon run the same assets on their own.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from iot_platform.errors import InputError, PlatformError, ServiceError
from iot_platform.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from iot_platform.assets.platform import Platform

LAYERS = ("registry", "silver", "gold", "staging", "marts")  # what is made from Bronze


@dataclass(frozen=True)
class Made:
    """One materialization: the asset (``silver/readings``), its date (None: not partitioned), its rows, if told."""

    asset: str
    day: date | None
    rows: int | None
    seconds: float | None


@dataclass(frozen=True)
class Checked:
    """One result of one check. ``is_blocking`` failures are errors, the others warn."""

    asset: str
    check: str
    day: date | None
    passed: bool
    severity: str
    description: str
    figure: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class StepEnd:
    """How one step ended."""

    step: str
    seconds: float
    error: str = ""


@dataclass
class RunResult:
    """What a run did. ``is_success`` is False when a step failed; a check that only warns fails no step."""

    run_id: str
    is_success: bool = False
    seconds: float = 0.0
    log: Path | None = None
    made: list[Made] = field(default_factory=list)
    checks: list[Checked] = field(default_factory=list)
    steps: list[StepEnd] = field(default_factory=list)

    @property
    def failed_checks(self) -> list[Checked]:
        return [check for check in self.checks if not check.passed]

    @property
    def errors(self) -> list[StepEnd]:
        return [step for step in self.steps if step.error]


Progress = Callable[[Made | Checked | StepEnd], None]


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
    return execute(platform, job.get_subset(asset_selection=set(keys)), tags, on_progress)


def execute(
    platform: Platform, job: dg.JobDefinition, tags: Mapping[str, str], on_progress: Progress | None = None
) -> RunResult:
    """Run the job to its end, recorded in Dagster, and add its check results to their history."""
    from iot_platform.checks import history

    run_id = str(uuid4())
    log = platform.settings.logs / "dagster" / f"{run_id}.log"
    result = RunResult(run_id, log=log)
    with persistent_instance(platform.settings) as instance, _listening(instance, result, log, on_progress):
        finished = job.execute_in_process(
            instance=instance,
            tags=tags,
            run_id=run_id,
            raise_on_error=False,
            # The log goes to its file; the terminal belongs to the caller.
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        stats = instance.get_run_stats(run_id)
        with suppress(PlatformError):  # the run is done; what could not be added now the next look adds
            history.collect(platform.lake, instance)
    platform.close()
    result.is_success = finished.success
    if stats.start_time and stats.end_time:
        result.seconds = stats.end_time - stats.start_time
    return result


def selected(definitions: dg.Definitions, select: Sequence[str]) -> list[dg.AssetKey]:
    """The assets that the words name. ``InputError`` names a word that selects nothing."""
    import dagster as dg

    graph = definitions.resolve_asset_graph()
    known = graph.executable_asset_keys
    found: set[dg.AssetKey] = set()
    for word in select:
        by_name = {key for key in known if key.path[0] == word or "/".join(key.path) == word}
        if not by_name:
            with warnings.catch_warnings(), suppress(dg.DagsterError, ValueError):
                warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster's own parser of `group:` warns of itself
                by_name = dg.AssetSelection.from_string(word).resolve(graph) & known
        if not by_name:
            names = sorted({key.path[0] for key in known} | {"/".join(key.path) for key in known})
            raise InputError(f"nothing is called {word!r}", f"There are: {', '.join(names)}")
        found |= by_name
    return sorted(found, key=lambda key: tuple(key.path))


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


@contextmanager
def _listening(
    instance: dg.DagsterInstance, result: RunResult, log: Path, on_progress: Progress | None
) -> Iterator[None]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:

        def listen(entry: Any) -> None:
            event = entry.dagster_event
            if event is None or "_PLANNED" not in event.event_type_value:
                moment = datetime.fromtimestamp(entry.timestamp, UTC).isoformat(timespec="milliseconds")
                file.write(f"{moment} {entry.step_key or '-'} {entry.message}\n")
            found = None if event is None else collect(event)
            if found is None:
                return
            listed: dict[type, list[Any]] = {Made: result.made, Checked: result.checks, StepEnd: result.steps}
            listed[type(found)].append(found)
            if on_progress:
                on_progress(found)

        instance.add_event_listener(result.run_id, listen)
        yield


def collect(event: dg.DagsterEvent) -> Made | Checked | StepEnd | None:
    """What an event says, when it says something that a caller wants to know."""
    if event.is_step_materialization:
        materialization = event.step_materialization_data.materialization
        metadata = materialization.metadata
        rows = _value(metadata, "dagster/partition_row_count", "dagster/row_count")
        return Made(
            "/".join(materialization.asset_key.path), _day(materialization.partition), rows, _value(metadata, "seconds")
        )
    if event.event_type_value == "ASSET_CHECK_EVALUATION":
        check = event.asset_check_evaluation_data
        return Checked(
            "/".join(check.asset_key.path), check.check_name, _day(check.partition), check.passed,
            check.severity.value, check.description or "", _value(check.metadata, "figure"),
            _value(check.metadata, "unit") or "",
        )  # fmt: skip
    if event.is_step_success:
        return StepEnd(event.step_key or "", event.step_success_data.duration_ms / 1000)
    if event.is_step_failure:
        return StepEnd(event.step_key or "", 0.0, _cause(event.step_failure_data))
    return None


def _cause(failure: Any) -> str:
    """The failure in one line: the user's words where there are some, else the innermost error."""
    if failure.user_failure_data and failure.user_failure_data.description:
        return " ".join(failure.user_failure_data.description.split())
    error = failure.error
    while error and error.cause:
        error = error.cause
    return " ".join(error.message.split()) if error else "failed"


def _value(metadata: Mapping[str, Any], *names: str) -> Any:
    return next((metadata[name].value for name in names if name in metadata), None)


def _day(partition: str | None) -> date | None:
    return date.fromisoformat(partition) if partition else None
