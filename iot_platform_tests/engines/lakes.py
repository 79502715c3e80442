"""A lake with some Bronze of two dates in it, as the engines' tests read it."""

from __future__ import annotations

from datetime import date, timedelta

from iot_platform.engines.protocol import InputFiles, Inputs, Params
from iot_platform.lake import Lake
from iot_platform.transforms.catalog import TRANSFORMS, Transform
from iot_platform_tests.transforms.rows import DAY, PROCESSED, Row, arrow, at, bronze, clocks, event, silver

BEFORE = DAY - timedelta(days=1)
SILVER = TRANSFORMS["silver/readings"]
WINDOWS = TRANSFORMS["gold/sensor_windows"]


def put(lake: Lake, table: str, day: date | None, rows: list[Row], level: int) -> None:
    lake.replace(table, day, arrow(table, rows).to_reader(), level=level, inputs={})


def fill_bronze(lake: Lake) -> None:
    """40 readings on the day before, 10 on ``DAY``; the later half of each came with sequence 2."""
    for day, count, days in ((BEFORE, 40, -1), (DAY, 10, 0)):
        rows = [bronze(value=float(n % 4), event_time=at(n, days=days), ingest_seq=1 + 2 * n // count) for n in range(count)]
        put(lake, "bronze/readings", day, rows, level=1)


def fill_silver(lake: Lake) -> None:
    for day, days in ((BEFORE, -1), (DAY, 0)):
        rows = [silver(value=float(n), event_time=at(n, days=days)) for n in range(20)]
        rows += [event(float(n), event_time=at(n, days=days)) for n in range(5)]
        put(lake, "silver/readings", day, rows, level=1)


def pinned(lake: Lake, transform: Transform, day: date = DAY) -> Inputs:
    """The inputs of one date at the newest versions."""
    inputs: dict[str, object] = {"clocks": clocks()}
    for item in transform.inputs:
        snapshot = lake.snapshot(item.table)
        days = [day - timedelta(days=n) for n in range(item.look_back + 1)] if snapshot.contract.partition else None
        inputs[item.view] = InputFiles(snapshot, days)
    return inputs  # pyright: ignore[reportReturnType]


def of(day: date | None = DAY) -> Params:
    return Params(day, PROCESSED, "test")
