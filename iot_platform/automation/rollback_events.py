"""What Dagster is told of a rollback or a release by a person: the date's events say so, and the check of held dates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iot_platform.lake.rollback import Rollback
    from iot_platform.settings import Settings


def rollback_metadata(done: Rollback) -> dict[str, Any]:
    """What was undone, as metadata."""
    import dagster as dg

    from iot_platform.assets.metadata import markdown_table

    found = done.comparison
    examples = [{"change": one.change, **one.key, "before": one.before, "after": one.after} for one in found.examples]
    return {
        "undone_version": done.undone.version,
        "restored_version": done.restored.version,
        **({"table_version": done.version} if done.version is not None else {}),
        "rows_before": found.rows_before,
        "rows_after": found.rows_after,
        "keys_added": found.added,
        "keys_removed": found.removed,
        "keys_changed": found.changed,
        **({"examples": dg.MetadataValue.md(markdown_table(examples))} if examples else {}),
    }


def tell(settings: Settings, table: str, day: date, what: str, metadata: Mapping[str, Any]) -> None:
    """Add an observation of the date, and how the check of held dates now stands, to Dagster's record of this home.

    Raises ``ServiceError`` when its database does not answer.
    """
    import dagster as dg

    from iot_platform.assets.metadata import asset_key
    from iot_platform.automation.run import persistent_instance
    from iot_platform.checks.asset_checks import evaluation
    from iot_platform.checks.catalog import table_checks
    from iot_platform.checks.held import HELD_CHECK, none_held
    from iot_platform.lake.lake import Lake

    check = next(one for one in table_checks() if (one.table, one.name) == (table, HELD_CHECK))
    outcome = none_held(Lake(settings), table)
    with persistent_instance(settings) as instance:
        instance.report_runless_asset_event(
            dg.AssetObservation(asset_key(table), description=what, partition=day.isoformat(), metadata=metadata)
        )
        instance.report_runless_asset_event(evaluation(check, outcome))
