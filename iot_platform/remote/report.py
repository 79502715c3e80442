"""What the job tells of each date as it is done, as plain JSON, and how that is read again. One message a date (UTC)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

from iot_platform.engines.materialize import DateResult
from iot_platform.engines.ranges import RangeResult
from iot_platform.errors import DataError, InputError, LakeError, PlatformError, ServiceError

ERRORS: dict[str, type[PlatformError]] = {
    kind.__name__: kind for kind in (PlatformError, InputError, ServiceError, LakeError, DataError)
}


def message(day: date, outcome: DateResult | PlatformError) -> dict[str, Any]:
    """One date's message. An error of a kind that the reader may not know is told as the plainest one."""
    if isinstance(outcome, DateResult):
        made = asdict(outcome) | {"day": outcome.day.isoformat(), "inputs": dict(outcome.inputs)}
        return {"date": day.isoformat(), "made": made}
    kind = next(known.__name__ for known in type(outcome).__mro__ if known.__name__ in ERRORS)
    failed: dict[str, Any] = {"kind": kind, "what": outcome.what, "todo": outcome.todo}
    if isinstance(outcome, DataError):
        failed |= {"offending": [dict(row) for row in outcome.offending], "count": outcome.count}
    return {"date": day.isoformat(), "failed": failed}


def range_result(messages: Iterable[Any], days: Sequence[date], missing: PlatformError) -> RangeResult:
    """What became of ``days``, as told; a date of which nothing was told failed with ``missing``.

    Of a date that was told twice, by a job that the service tried again, the later message counts.
    """
    told: dict[date, Mapping[str, Any]] = {}
    for one in messages:
        if isinstance(one, dict) and "date" in one:
            told[date.fromisoformat(one["date"])] = one
    result = RangeResult()
    for day in days:
        if day not in told:
            result.failed[day] = missing
        elif made := told[day].get("made"):
            result.made.append(DateResult(**(made | {"day": day})))
        else:
            failed = told[day]["failed"]
            error = ERRORS[failed["kind"]](failed["what"], failed["todo"])
            if isinstance(error, DataError):
                error.offending, error.count = failed.get("offending", ()), failed.get("count", 0)
            result.failed[day] = error
    return result
