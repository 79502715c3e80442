"""Makes again what the device was summed up in: the open dates of Silver and Gold, and the marts, in a file of their own.

What belongs here: which dates, and the run, the same as ``iot materialize``'s. The marts that readers open are a new file
after each build; the one that dbt works on is put in its place anew, so that no freed block keeps what was erased.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime

from iot_platform.lake.lake import Lake
from iot_platform.settings import Settings


@dataclass(frozen=True)
class Remade:
    """The dates that were made again (None: none had to be), whether all went well, and the run's log."""

    days: tuple[date, date] | None = None
    is_success: bool = True
    log: str = ""


def remake(
    settings: Settings, touched: Iterable[date], now: datetime, on_progress: Callable[[str], None] | None = None
) -> Remade:
    """Bring everything up to what Bronze and the registries hold now; ``touched``: dates that the marts have to look at.

    Dates that are closed or held are left as they are by the run itself. ``now`` is UTC.
    """
    from iot_platform.automation.run import LAYERS, run_assets
    from iot_platform.automation.run_events import StepEnd
    from iot_platform.engines import open_engine
    from iot_platform.engines.registry import registry_is_stale, sync_registry
    from iot_platform.lake.levels import Levels

    lake = Lake(settings)
    if registry_is_stale(lake):
        engine = open_engine(settings)
        try:
            sync_registry(lake, engine, now=now)
        finally:
            engine.close()
    days = {day for listed in Levels(lake).stale().values() for day in listed}
    # What was touched is looked at in any case: a date that lost all its rows is not everywhere known to be stale.
    days |= _behind(lake) | {*touched}
    if not days:
        return Remade()
    select = LAYERS if has_marts(settings) else tuple(layer for layer in LAYERS if layer not in ("staging", "marts"))

    def progress(event: object) -> None:
        if on_progress and isinstance(event, StepEnd):
            on_progress(event.step)

    result = run_assets(settings, min(days), max(days), select=select, force=False, on_progress=progress)
    return Remade((min(days), max(days)), result.is_success, str(result.log))


def has_marts(settings: Settings) -> bool:
    """Whether marts were ever built."""
    from iot_platform.marts.publish import build_file

    return settings.marts.exists() or build_file(settings).exists()


def _behind(lake: Lake) -> set[date]:
    """The first and the last date on which the published marts are behind the lake; the newest one of Gold when only a
    table without dates moved."""
    from iot_platform.automation.marts_sensor import lake_levels, moved, published_levels

    if not lake.settings.marts.exists():
        return set()
    found = moved(lake_levels(lake), published_levels(lake.settings.marts))
    if found is None:
        return set()
    newest = lake.snapshot("gold/sensor_health").rows_by_date or lake.snapshot("silver/readings").rows_by_date
    return set(found.days or ([max(newest)] if newest else []))


def renew_build_file(settings: Settings) -> None:
    """Put a copy of the published file in the place of the one that dbt works on: the same tables, and no old block."""
    from iot_platform.local.process import locked
    from iot_platform.marts.publish import build_file

    working = build_file(settings)
    if not working.exists():
        return
    with locked(settings.marts.with_name("build.lock"), 600):
        part = working.with_name(f".{working.name}.renewed")
        if settings.marts.exists():
            shutil.copyfile(settings.marts, part)
            part.replace(working)
        else:
            working.unlink()
        working.with_name(f"{working.name}.wal").unlink(missing_ok=True)
