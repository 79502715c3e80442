"""What words select: assets and checks, by layer, by table, by name, or in Dagster's own selection syntax."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from iot_platform.errors import InputError

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

DBT_LAYERS = ("staging", "marts")  # what the dbt project makes, and tests


def selected(definitions: dg.Definitions, select: Sequence[str]) -> list[dg.AssetKey]:
    """The assets that the words name. ``InputError`` names a word that selects nothing."""
    graph = definitions.resolve_asset_graph()
    known = graph.executable_asset_keys
    found: set[dg.AssetKey] = set()
    for word in select:
        chosen = {key for key in known if word in (key.path[0], "/".join(key.path))} or _by_syntax(graph, word) & known
        if not chosen:
            names = sorted({key.path[0] for key in known} | {"/".join(key.path) for key in known})
            raise InputError(f"nothing is called {word!r}", f"There are: {', '.join(names)}")
        found |= chosen
    return sorted(found, key=lambda key: tuple(key.path))


def selected_checks(definitions: dg.Definitions, select: Sequence[str]) -> set[dg.AssetCheckKey]:
    """The checks that the words name; all of them without words. ``InputError`` names a word that selects none."""
    graph = definitions.resolve_asset_graph()
    known = {key for key in graph.asset_check_keys if key.asset_key in graph.executable_asset_keys}
    found: set[dg.AssetCheckKey] = set()
    for word in select:
        chosen = {key for key in known if word in _names(key)}
        if not chosen:
            assets = _by_syntax(graph, word)
            chosen = {key for key in known if key.asset_key in assets}
        if not chosen:
            layers = sorted({key.asset_key.path[0] for key in known})
            own = sorted({key.name for key in known if key.asset_key.path[0] not in DBT_LAYERS})
            raise InputError(
                f"no check is called {word!r}", f"There are checks {', '.join(own)}, and layers {', '.join(layers)}"
            )
        found |= chosen
    return found or known


def _by_syntax(graph: AssetGraph, word: str) -> set[dg.AssetKey]:
    """The assets that the word selects as Dagster reads it; none when it is no selection."""
    import dagster as dg

    with warnings.catch_warnings(), suppress(dg.DagsterError, ValueError):
        warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster's own parser of `group:` warns of itself
        return set(dg.AssetSelection.from_string(word).resolve(graph))
    return set()


def _names(key: dg.AssetCheckKey) -> tuple[str, str, str, str]:
    """By what a check can be called: its layer, its table, its own name, and both."""
    table = "/".join(key.asset_key.path)
    return key.asset_key.path[0], table, key.name, f"{table}/{key.name}"
