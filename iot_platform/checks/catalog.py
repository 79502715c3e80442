"""Which checks there are: every property of every table that is looked at, once a date or once a run.

What belongs here: declarations. What a check does stands in the file of its kind; how Dagster runs it in ``asset_checks``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import dagster as dg

from iot_platform.assets.bronze import BRONZE
from iot_platform.assets.metadata import asset_key
from iot_platform.assets.registry import REGISTRY
from iot_platform.checks.conservation import conserves, offsets_conserve
from iot_platform.checks.contract import CONTRACT_CHECK, UNIQUE_CHECK, contract_holds, keys_are_unique
from iot_platform.checks.health import fleet_is_healthy
from iot_platform.checks.held import HELD_CHECK, none_held
from iot_platform.checks.inspection import Inspection
from iot_platform.checks.known import devices_are_declared, metrics_are_declared
from iot_platform.checks.outcome import Outcome
from iot_platform.checks.rates import quarantine_rate, rates
from iot_platform.checks.schema import SCHEMA_CHECK, schema_holds
from iot_platform.checks.thresholds import VOLUME_TABLES
from iot_platform.checks.volume import Volume
from iot_platform.lake.levels import daily_transforms

CONTRACT_SAYS = "What landed holds to the table's contract: types, nulls, bounds, closed lists."
KEYS_SAY = "No key of the table's contract stands twice."
SCHEMA_SAYS = "The table has the columns and types of its contract, and those it had when it was last looked at."
HELD_SAYS = "No rollback holds a date of the table: all of them are made again when their inputs move."
OFFSETS_CHECK = "offsets_conservation"


@dataclass(frozen=True)
class DateCheck:
    """A check of one property of one table on one date. A blocking one stops what reads the table."""

    table: str
    name: str
    description: str
    evaluate: Callable[[Inspection, date], Outcome]
    blocking: bool = False
    also_reads: tuple[str, ...] = ()

    @property
    def key(self) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(asset_key(self.table), self.name)


@dataclass(frozen=True)
class TableCheck:
    """A check of a whole table, with one result a run. ``evaluate`` is given the table's version of the last look too."""

    table: str
    name: str
    description: str
    evaluate: Callable[[Inspection, int | None], Outcome]
    blocking: bool = False
    also_reads: tuple[str, ...] = ()

    @property
    def key(self) -> dg.AssetCheckKey:
        return dg.AssetCheckKey(asset_key(self.table), self.name)


def dated_tables() -> tuple[str, ...]:
    """The tables whose dates are checked."""
    return (*BRONZE, *(transform.table for transform in daily_transforms()))


def date_checks() -> list[DateCheck]:
    """Every check that gives a result a date."""
    return [
        *(_contract(table) for table in dated_tables()),
        *(_keys(table) for table in dated_tables()),
        DateCheck(
            "silver/readings", "conservation", "Bronze = Silver + rejected + pending: no row vanishes, none appears.",
            conserves, blocking=True, also_reads=("bronze/readings", "silver/rejected_readings"),
        ),
        DateCheck(
            "silver/readings", "devices_are_declared", "Every device that reported was declared.",
            devices_are_declared, also_reads=("registry/devices",),
        ),
        DateCheck(
            "silver/readings", "metrics_are_declared", "Every metric that came has declared bounds.",
            metrics_are_declared, also_reads=("registry/metrics",),
        ),
        *(
            DateCheck(
                rate.table, rate.name, rate.description, rate,
                also_reads=("bronze/readings",) if rate.table == "silver/rejected_readings" else (),
            )
            for rate in rates()
        ),
        DateCheck(
            "bronze/quarantine", "quarantine_rate", "Few of the messages that arrived on the date cannot be read.",
            quarantine_rate,  # of Bronze too, which the same step makes
        ),
        *(
            DateCheck(table, "volume", "About as many rows as the same weekday usually has.", Volume(table))
            for table in VOLUME_TABLES
        ),
        DateCheck(
            "gold/sensor_health", "fleet_is_healthy", "The share of failing device windows is small.", fleet_is_healthy
        ),
    ]  # fmt: skip


def table_checks() -> list[TableCheck]:
    """Every check that looks at a whole table."""
    return [
        *(
            TableCheck(table, SCHEMA_CHECK, SCHEMA_SAYS, _schema(table))
            for table in (*dated_tables(), *REGISTRY)
        ),
        *(TableCheck(table, CONTRACT_CHECK, CONTRACT_SAYS, _whole(contract_holds, table), True) for table in REGISTRY),
        *(TableCheck(table, UNIQUE_CHECK, KEYS_SAY, _whole(keys_are_unique, table)) for table in REGISTRY),
        *(TableCheck(one.table, HELD_CHECK, HELD_SAYS, _held(one.table)) for one in daily_transforms()),
        TableCheck(
            "bronze/readings", OFFSETS_CHECK, "Every consumed Kafka record is in Bronze or in quarantine, exactly once.",
            lambda inspection, _: offsets_conserve(inspection), True, ("bronze/quarantine",),
        ),
    ]  # fmt: skip


def _contract(table: str) -> DateCheck:
    return DateCheck(
        table, CONTRACT_CHECK, CONTRACT_SAYS,
        lambda inspection, day: contract_holds(inspection, table, day), blocking=True,
    )  # fmt: skip


def _keys(table: str) -> DateCheck:
    return DateCheck(table, UNIQUE_CHECK, KEYS_SAY, lambda inspection, day: keys_are_unique(inspection, table, day))


def _schema(table: str) -> Callable[[Inspection, int | None], Outcome]:
    return lambda inspection, seen: schema_holds(inspection.lake, table, seen)


def _held(table: str) -> Callable[[Inspection, int | None], Outcome]:
    return lambda inspection, _: none_held(inspection.lake, table)


def _whole(holds: Callable[..., Outcome], table: str) -> Callable[[Inspection, int | None], Outcome]:
    return lambda inspection, _: holds(inspection, table, None)


def blocking_checks() -> dict[str, list[dg.AssetCheckKey]]:
    """Per table, the checks that stop what reads it."""
    found: dict[str, list[dg.AssetCheckKey]] = {}
    for check in date_checks():
        if check.blocking:
            found.setdefault(check.table, []).append(check.key)
    return found
