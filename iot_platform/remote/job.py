"""One job: some dates of one table, made again or brought up to date; and the command line that says so."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from iot_platform.errors import InputError
from iot_platform.lake.levels import daily_transforms
from iot_platform.transforms.catalog import Transform

PROGRAM = "python -m iot_platform.remote.main"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Job:
    """``days`` (UTC dates) of ``table``; ``force`` makes up-to-date ones again, but not those of ``made``, which an earlier
    attempt made; ``now`` becomes their ``processed_at``."""

    table: str
    days: tuple[date, ...]
    force: bool
    now: datetime
    made: tuple[date, ...] = ()

    def forces(self, day: date) -> bool:
        """Whether this date is made again even if it is up to date."""
        return self.force and day not in self.made

    @property
    def name(self) -> str:
        """For people who look at a list of jobs."""
        return f"iot {self.table} {date_ranges(self.days)}"[:64]

    @property
    def transform(self) -> Transform:
        return next(transform for transform in daily_transforms() if transform.table == self.table)

    def arguments(self) -> list[str]:
        """The command line of the job, which ``job_of`` reads."""
        forced = ["--force"] if self.force else []
        made = ["--made", date_ranges(self.made)] if self.made else []
        return ["--table", self.table, "--dates", date_ranges(self.days), "--now", self.now.isoformat(), *forced, *made]


def job_of(arguments: Sequence[str] | None, now: datetime) -> Job:
    """The job that a command line asks for (``None``: this process's). Raises ``InputError`` for dates that are none."""
    tables = [transform.table for transform in daily_transforms()]
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument("--table", required=True, choices=tables, metavar="TABLE", help=", ".join(tables))
    parser.add_argument("--dates", required=True, help="UTC dates and ranges: 2026-03-10..2026-03-12,2026-03-20")
    parser.add_argument("--force", action="store_true", help="make dates again that are up to date")
    parser.add_argument("--made", default="", help="dates that --force leaves out: an earlier attempt made them")
    parser.add_argument("--now", default=now.isoformat(), help="when the run began, with zone; default: now")
    given = parser.parse_args(arguments)
    made = tuple(parse_dates(given.made, "--made")) if given.made else ()
    return Job(given.table, tuple(parse_dates(given.dates)), given.force, _moment(given.now), made)


def date_ranges(days: Iterable[date]) -> str:
    """Dates as text: neighbours as one range, ranges parted by commas."""
    runs: list[list[date]] = []
    for day in sorted(set(days)):
        if runs and day - runs[-1][-1] == DAY:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def parse_dates(text: str, option: str = "--dates") -> list[date]:
    """What ``date_ranges`` wrote, both ends of a range included."""
    days: list[date] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("..")
        try:
            begin, end = date.fromisoformat(first), date.fromisoformat(last or first)
        except ValueError:
            example = "Write 2026-03-10 or 2026-03-10..2026-03-12."
            raise InputError(f"{option}: {part.strip()!r} is no date", example) from None
        if end < begin:
            raise InputError(f"{option}: {part.strip()} ends before it begins", "Write the earlier date first.")
        days += [begin + DAY * number for number in range((end - begin).days + 1)]
    return days


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--now: {text!r} is no time", "Write it as 2026-03-10T06:00:00+00:00.") from None
    if moment.tzinfo is None:
        raise InputError(f"--now: {text} has no zone", "Write it as 2026-03-10T06:00:00+00:00.")
    return moment.astimezone(UTC)
