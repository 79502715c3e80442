"""What a run in this process says while it goes on: materializations, check results, ends of steps, and its log file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

NOT_JUDGED = "not_judged"  # metadata of a check's result that passed for want of data: why
ONLY_CHECKS = "only_checks"  # metadata of a step's failure that says nothing besides its checks' results

@dataclass(frozen=True)
class Made:
    """One materialization: the asset (``silver/readings``), its date (None: not partitioned), its rows, if told.

    ``held`` says in a line that a rollback holds the date, if so: nothing was made then.
    """

    asset: str
    day: date | None
    rows: int | None
    seconds: float | None
    held: str = ""


@dataclass(frozen=True)
class Checked:
    """One result of one check, with how bad a failure is. ``is_judged`` is False of one that passed for want of data."""

    asset: str
    check: str
    day: date | None
    passed: bool
    severity: str
    description: str
    figure: float | None = None
    unit: str = ""
    is_judged: bool = True


@dataclass(frozen=True)
class StepEnd:
    """How one step ended. ``is_told``: it failed by nothing but checks, whose results say so themselves."""

    step: str
    seconds: float
    error: str = ""
    is_told: bool = False


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

    @property
    def untold_errors(self) -> list[StepEnd]:
        """The steps that broke by something that no check's result says."""
        return [step for step in self.errors if not step.is_told]


Progress = Callable[[Made | Checked | StepEnd], None]


@contextmanager
def listening(
    instance: dg.DagsterInstance, result: RunResult, log: Path, on_progress: Progress | None
) -> Iterator[None]:
    """While this lasts, what the run says goes into ``result``, to ``on_progress`` and, line by line, into the file."""
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
            "/".join(materialization.asset_key.path), _day(materialization.partition), rows, _value(metadata, "seconds"),
            _value(metadata, "held") or "",
        )  # fmt: skip
    if event.event_type_value == "ASSET_CHECK_EVALUATION":
        check = event.asset_check_evaluation_data
        return Checked(
            "/".join(check.asset_key.path), check.check_name, _day(check.partition), check.passed,
            check.severity.value, check.description or "", _value(check.metadata, "figure"),
            _value(check.metadata, "unit") or "", NOT_JUDGED not in check.metadata,
        )  # fmt: skip
    if event.is_step_success:
        return StepEnd(event.step_key or "", event.step_success_data.duration_ms / 1000)
    if event.is_step_failure:
        return StepEnd(
            event.step_key or "", 0.0, _cause(event.step_failure_data), is_told=_is_told(event.step_failure_data)
        )
    return None


def _is_told(failure: Any) -> bool:
    """Whether Dagster ended the step because a blocking check had failed, or the step says that only tests did."""
    if failure.user_failure_data:
        return ONLY_CHECKS in (failure.user_failure_data.metadata or {})
    error = failure.error
    while error and error.cause:
        error = error.cause
    return bool(error) and error.cls_name == "DagsterAssetCheckFailedError"


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
