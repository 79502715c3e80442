"""``iot query``: SQL over the tables and marts. The views stand in ``lake.query``."""

from __future__ import annotations

from typing import Annotated

import typer

from iot_platform.cli.console import JsonOption, emit_json, out, table
from iot_platform.settings import load_settings


def query(
    sql: Annotated[str, typer.Argument(help="one SELECT over views such as silver_readings, gold_daily_summary, devices")],
    as_json: Annotated[bool, JsonOption] = False,
    limit: Annotated[int, typer.Option(help="rows shown to people; 0: all")] = 100,
) -> None:
    """Ask the tables and marts by SQL; nothing is changed, no service needed.

    Example: iot query "select device_id, avg(health_pct) from gold_sensor_health group by 1 order by 2"
    """
    from iot_platform.lake import Lake
    from iot_platform.lake.query import as_json as json_value
    from iot_platform.lake.query import select

    names, rows = select(Lake(load_settings()), sql)
    if as_json:
        emit_json([dict(zip(names, map(json_value, row), strict=True)) for row in rows])
    else:
        out.print(table("", names, rows, limit=limit))
        out.print(f"{len(rows)} rows")
