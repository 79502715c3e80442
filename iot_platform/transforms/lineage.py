"""Which input columns each column is made from, read off the SQL text itself: nothing here is typed by hand.

A column comes from every column in the expression that yields it, through subqueries, unions, windows and stars; what
only filters or joins rows does not make a value and is left out. An aggregate of no column (``count(*)``) comes from what
tells the aggregated rows apart: the group keys of a grouped query, else the keys of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, cast

from iot_platform.contracts.tables import TABLES
from iot_platform.transforms.catalog import DECLARED_DEVICES, TRANSFORMS, input_columns

if TYPE_CHECKING:
    from sqlglot.expressions import Column, Expr, Selectable
    from sqlglot.optimizer.scope import Scope

Source = tuple[str, str]  # (table, column)
ColumnLineage = dict[str, tuple[Source, ...]]

# What a text reads beside tables: the run's own values, how far time has come, and the declarations.
BESIDE_TABLES: dict[str, tuple[str, ...]] = {
    "params": ("event_date", "day_start", "day_end", "processed_at", "pipeline_version"),
    "clocks": ("contract", "as_of"),
    DECLARED_DEVICES: tuple(column.name for column in input_columns("registry/devices") if column.name != "source"),
}


def column_lineage(table: str) -> ColumnLineage:
    """Per column of a derived table, in order, the columns of its inputs that it is made from; empty: of no table.

    ``table`` is one of ``TRANSFORMS``; inputs are named as tables (``silver/readings``), sorted. Only the tables that the
    text reads itself are named: for those behind them see ``lineage_through``.
    """
    transform = TRANSFORMS[table]
    return _column_lineage(table, transform.sql)


@cache
def _column_lineage(table: str, sql: str) -> ColumnLineage:
    inputs = {source.view: source.table for source in TRANSFORMS[table].inputs}
    schemas = {view: tuple(c.name for c in input_columns(name)) for view, name in inputs.items()}
    keys = {view: TABLES[name].keys for view, name in inputs.items()}
    found = lineage_of_sql(sql, schemas | BESIDE_TABLES, keys)
    return {
        column: tuple((inputs[view], name) for view, name in sources if view in inputs)
        for column, sources in found.items()
    }


def lineage_through(table: str, hidden: Iterable[str]) -> ColumnLineage:
    """As ``column_lineage``, with each ``hidden`` input replaced by what it is itself made from."""
    inner = set(hidden)
    lineages = {name: column_lineage(name) for name in {table, *inner}}

    def visible(source: Source, seen: frozenset[Source]) -> set[Source]:
        if source[0] not in inner:
            return {source}
        if source in seen:  # a table that reads its own rows
            return set()
        return {found for behind in lineages[source[0]][source[1]] for found in visible(behind, seen | {source})}

    return {
        column: tuple(sorted({found for source in sources for found in visible(source, frozenset())}))
        for column, sources in lineages[table].items()
    }


def lineage_of_sql(
    sql: str,
    schemas: Mapping[str, Sequence[str]],
    keys: Mapping[str, Sequence[str]] | None = None,
    *,
    dialect: str = "duckdb",
) -> ColumnLineage:
    """Per column that a query yields, in order, the (table, column) pairs it is made from, sorted.

    ``schemas``: the columns of the tables that the query reads, by bare name (catalog and schema left out). ``keys``: the
    columns that tell a table's rows apart, for what aggregates rows alone. Raises ``ValueError`` for a query that cannot be
    read, or names a column that cannot be told to be of a table.
    """
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    typed: dict[str, object] = {table: dict.fromkeys(columns, "varchar") for table, columns in schemas.items()}
    try:
        tree = parse_one(sql, dialect=dialect)
        for table in tree.find_all(exp.Table):
            table.set("db", None)
            table.set("catalog", None)
        root = build_scope(qualify(tree, schema=typed, dialect=dialect, quote_identifiers=False))
    except SqlglotError as error:
        raise ValueError(f"the lineage of a query cannot be told: {' '.join(str(error).split())[:300]}") from None
    if root is None or "*" in _names(root):
        raise ValueError("the lineage of a query cannot be told: it names no columns")
    walk = _Walk(keys or {})
    return {name: tuple(sorted(walk.column(root, name))) for name in _names(root)}


def _query(scope: Scope) -> Selectable:
    return cast("Selectable", scope.expression)


def _names(scope: Scope) -> list[str]:
    """The columns that a scope yields."""
    return _query(scope).named_selects


@dataclass
class _Walk:
    """Follows columns from scope to scope down to tables; each column of each scope once."""

    keys: Mapping[str, Sequence[str]]
    known: dict[tuple[int, str], frozenset[Source]] = field(default_factory=dict)

    def column(self, scope: Scope, name: str) -> frozenset[Source]:
        """What a column that the scope yields is made from."""
        key = (id(scope), name)
        if key not in self.known:
            self.known[key] = frozenset(self._column(scope, name))
        return self.known[key]

    def _column(self, scope: Scope, name: str) -> Iterator[Source]:
        if scope.set_operation_scopes:
            position = _names(scope).index(name)
            for branch in scope.set_operation_scopes:
                yield from self.column(branch, _names(branch)[position])
        elif name in _names(scope):
            yield from self._expression(scope, _query(scope).selects[_names(scope).index(name)])

    def _expression(self, scope: Scope, expression: Expr) -> Iterator[Source]:
        from sqlglot import exp

        yield from self._columns(scope, expression)
        named = {window.name: window for window in scope.expression.args.get("windows") or ()}
        for window in expression.find_all(exp.Window):
            if declared := named.get(window.alias):
                yield from self._columns(scope, declared)
        for aggregate in expression.find_all(exp.AggFunc):
            # `percentile_cont(0.5) within group (order by x)` names its column outside the function.
            whole = aggregate.parent if isinstance(aggregate.parent, exp.WithinGroup) else aggregate
            if not aggregate.find_ancestor(exp.Window) and not any(self._columns(scope, whole)):
                yield from self._rows(scope)

    def _columns(self, scope: Scope, expression: Expr) -> Iterator[Source]:
        from sqlglot import exp

        for column in expression.find_all(exp.Column):
            yield from self._named(scope, column)

    def _named(self, scope: Scope, column: Column) -> Iterator[Source]:
        for place in (scope, *scope.subquery_scopes):
            if (source := place.sources.get(column.table)) is not None:
                yield from self._of(source, column.name)
                return

    def _of(self, source: Scope | Expr, name: str) -> Iterator[Source]:
        from sqlglot.optimizer.scope import Scope

        if isinstance(source, Scope):
            yield from self.column(source, name)
        else:
            yield (source.name, name)

    def _rows(self, scope: Scope) -> Iterator[Source]:
        """What tells the rows apart that a scope reads."""
        from sqlglot.optimizer.scope import Scope

        for _, source in scope.selected_sources.values():
            if isinstance(source, Scope):
                yield from self._yielded(source)
            else:
                yield from ((source.name, key) for key in self.keys.get(source.name, ()))

    def _yielded(self, scope: Scope) -> Iterator[Source]:
        """What tells the rows apart that a scope yields."""
        if scope.set_operation_scopes:
            for branch in scope.set_operation_scopes:
                yield from self._yielded(branch)
        elif group := scope.expression.args.get("group"):
            yield from self._expression(scope, group)
        elif scope.expression.args.get("distinct"):
            for name in _names(scope):
                yield from self.column(scope, name)
        else:
            yield from self._rows(scope)
