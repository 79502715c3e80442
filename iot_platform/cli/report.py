"""``iot report``: finished reports for analysts. The figures are those of ``gold/duration_p95``."""

from __future__ import annotations

import csv
import sys
from enum import StrEnum
from typing import Annotated

import typer

from iot_platform.cli.console import FromOption, JsonOption, ToOption, emit_json, out, parse_range, table
from iot_platform.cli.materialize import NO_DATA, holds_data
from iot_platform.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Finished reports. Example: iot report p95 --from 2026-11-01 --to 2026-11-07")


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@app.callback()
def reports() -> None:
    """Finished reports. Example: iot report p95 --from 2026-11-01 --to 2026-11-07"""


@app.command()
def p95(
    first: Annotated[str | None, FromOption] = None,
    last: Annotated[str | None, ToOption] = None,
    form: Annotated[Format, typer.Option("--format", help="table for people, json or csv for programs")] = Format.TABLE,
    as_json: Annotated[bool, JsonOption] = False,
) -> None:
    """95th percentile of event durations by device type and day, 3-sigma outliers left out.

    Example: iot report p95 --from 2026-11-01 --to 2026-11-07 --format json
    """
    from iot_platform.lake import Lake
    from iot_platform.lake.query import as_json as json_value
    from iot_platform.lake.query import select

    days = parse_range(first, last)
    settings = load_settings()
    where = f"where event_date between '{days[0]}' and '{days[1]}'" if days else ""
    names, rows = select(
        Lake(settings),
        "select event_date, device_type, events, excluded, mean, std, p95"
        f" from gold_duration_p95 {where} order by event_date, device_type",
    )
    if as_json or form is Format.JSON:
        emit_json([dict(zip(names, map(json_value, row), strict=True)) for row in rows])
    elif form is Format.CSV:
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows([["" if value is None else json_value(value) for value in row] for row in rows])
    elif rows:
        out.print(table("Event duration in ms, by day and device type", names, rows))
    elif days and not holds_data(settings, days):
        out.print(NO_DATA)
    else:
        out.print("no rows: no device type had 500 events on a date, or the dates are not made yet (iot materialize)")
