"""Fields that became columns of ``bronze/readings`` after rows had landed without them, and what older rows read there.

What belongs here: what the declarations in ``wire`` mean for the table. A field that names a column which the table does not
declare itself adds it (null in older rows, nothing is written anew); one with ``older=Older.EXTRAS`` reads older rows from
what ``extras`` kept of them, in every engine. A value of another JSON type than the field's stays what it was: null here,
and whole in ``extras``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from iot_platform.contracts.wire import CONTRACTS, Json, Older, WireContract, WireField

TEXTS = frozenset({Json.STRING, Json.UUID})
COLUMN_TYPES = TEXTS | {Json.NUMBER}


class Kept(NamedTuple):
    """Where the messages of a contract kept a value before it had a column: its path in ``extras``."""

    contract: str
    path: tuple[str, ...]
    is_text: bool


def all_fields(contracts: Mapping[str, WireContract] = CONTRACTS) -> list[tuple[WireContract, WireField]]:
    """The fields of every version of every contract."""
    return [
        (version, field) for contract in contracts.values() for version in contract.versions for field in version.fields
    ]


def promoted(table: Collection[str], contracts: Mapping[str, WireContract] = CONTRACTS) -> tuple[WireField, ...]:
    """A field for each column that is declared on the wire and not by the table.

    ``table``: the names of the columns that the table declares itself. Raises ``ValueError`` for what cannot be a column.
    """
    found: dict[str, WireField] = {}
    for contract, field in all_fields(contracts):
        if not field.column or field.column in table:
            continue
        if field.json not in COLUMN_TYPES:
            raise ValueError(f"{contract.name}.{field.name}: a {field.json} makes no column; leave it in extras")
        known = found.setdefault(field.column, field)
        if (known.json in TEXTS) != (field.json in TEXTS):
            raise ValueError(f"{contract.name}.{field.name}: column {field.column} has another type in another contract")
    return tuple(found[name] for name in sorted(found))


def kept(contracts: Mapping[str, WireContract] = CONTRACTS) -> dict[str, tuple[Kept, ...]]:
    """Per column the contracts whose older rows are read from ``extras``."""
    found: dict[str, list[Kept]] = {}
    for contract, field in all_fields(contracts):
        one = Kept(contract.name, _escaped(field.path), field.json in TEXTS)
        if field.older is Older.EXTRAS and field.column and one not in found.setdefault(field.column, []):
            found[field.column].append(one)
    return {column: tuple(places) for column, places in found.items() if places}


def _escaped(path: tuple[str, ...]) -> tuple[str, ...]:
    """As ``extras`` has it: a field of the message that begins with ``$`` has one more there."""
    return (f"${path[0]}" if path[0].startswith("$") else path[0], *path[1:])


KEPT = kept()
"""What the declarations of today say. Empty where no field was promoted so, and then reading costs nothing more."""


def duckdb_value(column: str, value: str) -> str:
    """SQL of DuckDB: ``value``, or where that is null what ``extras`` kept."""
    parts: list[str] = []
    for place in KEPT.get(column, ()):
        path = _literal("$." + ".".join(f'"{key}"' for key in place.path))
        held = f"json_extract_string(extras, {path})"
        kinds = "('VARCHAR')" if place.is_text else "('UBIGINT', 'BIGINT', 'HUGEINT', 'DOUBLE')"
        when = f"contract = {_literal(place.contract)} and json_type(extras, {path}) in {kinds}"
        parts.append(f"case when {when} then {held if place.is_text else f'try_cast({held} as double)'} end")
    return f"coalesce({value}, {', '.join(parts)})" if parts else value


def spark_value(column: str, value: str) -> str:
    """The same in SQL of Spark."""
    parts: list[str] = []
    for place in KEPT.get(column, ()):
        path = _literal("$" + "".join(f'["{key}"]' for key in place.path))
        held = f"try_variant_get(try_parse_json(extras), {path}, 'variant')"
        kinds = "= 'STRING'" if place.is_text else "rlike '^(BIGINT|DOUBLE|DECIMAL)'"
        when = f"contract = {_literal(place.contract)} and schema_of_variant({held}) {kinds}"
        kind = "string" if place.is_text else "double"
        parts.append(f"case when {when} then try_variant_get(try_parse_json(extras), {path}, '{kind}') end")
    return f"coalesce({value}, {', '.join(parts)})" if parts else value


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
