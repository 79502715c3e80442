"""The version of a transform's code: it changes with what makes rows another, and not with how they are described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from iot_platform.assets.registry import registry_code_version
from iot_platform.contracts.tables import TABLES, TableContract
from iot_platform.transforms.catalog import TRANSFORMS, code_version

TABLE = "gold/sensor_health"


def column(contract: TableContract, called: str, **changed: Any) -> TableContract:
    columns = tuple(replace(one, **changed) if one.name == called else one for one in contract.columns)
    return replace(contract, columns=columns)


def versions(monkeypatch: pytest.MonkeyPatch, table: str, change: Callable[[TableContract], TableContract]) -> list[str]:
    """Before and after the change."""

    def version() -> str:
        return code_version(TRANSFORMS[table]) if table == TABLE else registry_code_version(table)

    before = version()
    monkeypatch.setitem(TABLES, table, change(TABLES[table]))
    return [before, version()]


@pytest.mark.parametrize("table", [TABLE, "registry/metrics"])
def test_other_words_are_no_other_code(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    def reword(contract: TableContract) -> TableContract:
        columns = tuple(replace(one, description=f"{one.description}, in other words") for one in contract.columns)
        return replace(contract, grain="one row each", description="Reworded.", columns=columns)

    before, after = versions(monkeypatch, table, reword)
    assert before == after


@pytest.mark.parametrize(
    "change",
    [
        lambda contract: column(contract, "health_pct", maximum=99.0),
        lambda contract: column(contract, "health_pct", nullable=True),
        lambda contract: column(contract, "contract", allowed=("a",)),
        lambda contract: column(contract, "contract", name="kind_of_message"),
        lambda contract: replace(contract, keys=("device_id",)),
        lambda contract: replace(contract, sort=("device_id",)),
    ],
)
def test_other_columns_bounds_or_keys_are(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[TableContract], TableContract]
) -> None:
    before, after = versions(monkeypatch, TABLE, change)
    assert before != after
