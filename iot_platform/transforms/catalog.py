"""The catalog of the transforms: for every derived table its inputs, how far they look back, and its SQL text.

What belongs here: declarations. Nothing runs here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from iot_platform.contracts.promoted import KEPT
from iot_platform.contracts.tables import TABLES, Column, Kind, TableContract

# What the registry adds by itself when it writes: how a row came to change is no part of any computation.
WRITTEN_BY_LAKE = frozenset({Kind.CHANGES})

DECLARED_DEVICES = "declared_devices"


@dataclass(frozen=True)
class Input:
    """A table that a transform reads: of an output date D, the dates D - look_back … D (unpartitioned: all of it).

    A registry's ``look_back`` says for which dates its rows are used. ``declared_only``: changes of rows that were
    inferred do not matter to the output.
    """

    table: str
    look_back: int = 0
    declared_only: bool = False

    @property
    def view(self) -> str:
        return TABLES[self.table].view


@dataclass(frozen=True)
class Transform:
    """How one table is made.

    ``clocks``: it also reads the view ``clocks(contract, as_of)``. ``declared``: it also reads the view
    ``declared_devices``. ``slice_by``: a column whose values can be computed apart, so that a day larger than memory
    is made in slices.
    """

    table: str
    inputs: tuple[Input, ...]
    clocks: bool = False
    declared: bool = False
    slice_by: str = ""

    @property
    def contract(self) -> TableContract:
        return TABLES[self.table]

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the text yields, in order: the table's columns but those that the lake writes."""
        return tuple(column for column in self.contract.columns if column.kind not in WRITTEN_BY_LAKE)

    @property
    def sliced(self) -> bool:
        return bool(self.slice_by)

    @property
    def sql(self) -> str:
        return _text(self.contract.view)


@cache
def _text(view: str) -> str:
    return resources.files("iot_platform.transforms").joinpath(f"{view}.sql").read_text(encoding="utf-8")


def code_version(transform: Transform) -> str:
    """Changes with the transform's text, with what its table's contract holds, and where it reads Bronze with what older
    rows read from ``extras``; with nothing else."""
    text = f"{transform.sql}\n{held(transform.contract)!r}"
    if KEPT and any(source.table == "bronze/readings" for source in transform.inputs):
        text += repr(sorted(KEPT.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def held(contract: TableContract) -> tuple[object, ...]:
    """What a contract holds its rows to, without the words that describe them: wording makes no row another."""
    columns = (
        (column.name, column.kind.value, column.nullable, column.minimum, column.maximum, column.allowed)
        for column in contract.columns
    )
    return (contract.name, contract.keys, contract.sort, contract.partition, *columns)


def input_columns(table: str) -> tuple[Column, ...]:
    """The columns of a table as transforms see it."""
    return tuple(column for column in TABLES[table].columns if column.kind not in WRITTEN_BY_LAKE)


def _catalog(*transforms: Transform) -> dict[str, Transform]:
    return {transform.table: transform for transform in transforms}


# In the order in which they can be made: a table stands after the tables that it reads.
TRANSFORMS: dict[str, Transform] = _catalog(
    Transform("registry/first_readings", (Input("registry/first_readings"), Input("bronze/readings"))),
    Transform("registry/devices", (Input("registry/first_readings"),), declared=True),
    Transform(
        "silver/readings",
        (
            Input("bronze/readings", look_back=1),
            Input("registry/devices", declared_only=True),
            Input("registry/metrics", look_back=1),
        ),
    ),
    Transform("silver/rejected_readings", (Input("bronze/readings"), Input("registry/metrics"))),
    Transform("gold/sensor_windows", (Input("silver/readings"),), slice_by="device_id"),
    Transform("gold/device_type_windows", (Input("silver/readings"),)),
    Transform("gold/location_hourly", (Input("silver/readings"),)),
    Transform(
        "gold/daily_summary",
        (Input("silver/readings", look_back=6), Input("silver/rejected_readings")),
        slice_by="device_id",
    ),
    Transform("gold/sensor_health", (Input("silver/readings"), Input("registry/devices")), clocks=True),
    Transform("gold/duration_p95", (Input("silver/readings"),), slice_by="device_type"),
    Transform("gold/anomaly_events", (Input("silver/readings"), Input("registry/devices"))),
)
