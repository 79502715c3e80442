"""What becomes of a date's rows when one version of it takes another's place: counted by key, with examples.

Floats that are equal to 1e-9 relative are the same figure: sums are made in no fixed order.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from iot_platform.contracts.duckdb import select_files
from iot_platform.contracts.tables import LINEAGE, Kind, TableContract
from iot_platform.lake.lake import Lake
from iot_platform.lake.snapshot import Snapshot

EXAMPLES = 3  # of each kind
RELATIVE = 1e-9
# When a row was written, and by which release, makes it no other row.
NOT_COMPARED = frozenset(column.name for column in LINEAGE)


@dataclass(frozen=True)
class Example:
    """One key that differs. ``change``: added, removed or changed; ``before`` and ``after`` hold the columns that differ."""

    change: str
    key: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Rows on both sides, and how many keys only the later has (added), only the earlier (removed), or both with others
    values (changed)."""

    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int
    examples: tuple[Example, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "examples": [asdict(example) for example in self.examples]}


def compare(lake: Lake, before: Snapshot, after: Snapshot, day: date) -> Comparison:
    """Compare a date of two versions of a table. Raises ``LakeError`` when a file of either cannot be read."""
    contract = before.contract
    keys = ", ".join(f'"{key}"' for key in contract.keys)
    compared = ", ".join(f'"{name}"' for name in _compared(contract)) or "1"
    with lake.reading(contract.name) as connection:
        for name, snapshot in (("old", before), ("new", after)):
            connection.execute(f"create temp view {name} as {select_files(contract, snapshot.files([day]))}")
        # Rows are compared by a hash of 64 bits: a day of millions then needs no more memory than its keys.
        connection.execute(
            f"create temp table pairs as select {keys}, o.mark as was, n.mark as is_now"
            f" from (select {keys}, hash({compared}) as mark from old) o"
            f" full join (select {keys}, hash({compared}) as mark from new) n using ({keys})"
            " where o.mark is distinct from n.mark"
        )
        # Of those that differ, noise in a float is none: looked at again, in full.
        if floats := {column.name for column in contract.columns if column.kind is Kind.DOUBLE} & {*_compared(contract)}:
            same = " and ".join(_is_same(name, is_float=name in floats) for name in _compared(contract))
            connection.execute(
                f"delete from pairs where was is not null and is_now is not null and ({keys}) in"
                f" (select ({keys}) from old o join new n using ({keys}) semi join pairs using ({keys}) where {same})"
            )
        change = "case when was is null then 'added' when is_now is null then 'removed' else 'changed' end"
        counts = dict(connection.execute(f"select {change}, count(*) from pairs group by 1").fetchall())
        shown = connection.execute(
            f"select {change} as change, {keys} from pairs"
            f" qualify row_number() over (partition by change order by {keys}) <= {EXAMPLES} order by change, {keys}"
        ).fetchall()
        examples = tuple(_example(connection, contract, change, key) for change, *key in shown)
    return Comparison(
        before.rows_by_date.get(day, 0), after.rows_by_date.get(day, 0),
        counts.get("added", 0), counts.get("removed", 0), counts.get("changed", 0), examples,
    )  # fmt: skip


def _compared(contract: TableContract) -> list[str]:
    left_out = {*contract.keys, contract.partition, *NOT_COMPARED}
    return [column.name for column in contract.columns if column.name not in left_out]


def _example(connection: Any, contract: TableContract, change: str, key: list[Any]) -> Example:
    names = _compared(contract)
    columns = ", ".join(f'"{name}"' for name in names) or "1"
    where = " and ".join(f'"{name}" is not distinct from ?' for name in contract.keys)
    sides: list[dict[str, Any]] = []
    for view in ("old", "new"):
        row = connection.execute(f"select {columns} from {view} where {where}", key).fetchone()
        sides.append(dict(zip(names, row, strict=True)) if row and names else {})
    before, after = sides
    differing = [name for name in names if not _are_same(before.get(name), after.get(name))]
    return Example(
        change, dict(zip(contract.keys, key, strict=True)),
        {name: before[name] for name in differing if name in before},
        {name: after[name] for name in differing if name in after},
    )  # fmt: skip


def _is_same(name: str, *, is_float: bool) -> str:
    """The condition that a column is the same in ``o`` and ``n``."""
    equal = f'o."{name}" is not distinct from n."{name}"'
    if not is_float:
        return equal
    near = f'abs(o."{name}" - n."{name}") <= {RELATIVE} * greatest(abs(o."{name}"), abs(n."{name}"))'
    return f'({equal} or (isfinite(o."{name}") and isfinite(n."{name}") and {near}))'


def _are_same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=RELATIVE) or (math.isnan(one) and math.isnan(other))
    return one == other
