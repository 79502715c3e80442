"""``iot maintain``: what the nightly maintenance does to the tables, now."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

from iot_platform.cli.console import JsonOption, emit_json, out, step, table
from iot_platform.settings import load_settings


def maintain(as_json: Annotated[bool, JsonOption] = False) -> None:
    """Merge small files of past dates, write checkpoints, remove files that nobody reads any more. Rows stay as they are.

    Safe beside running writers. Dagster does the same every night, and forgets old runs too.
    Example: iot maintain --json
    """
    from iot_platform.lake import Lake
    from iot_platform.lake.maintain import maintain as maintain_lake
    from iot_platform.lake.maintain import refuse_failed

    settings = load_settings()
    with step("maintenance of the tables"):
        results = maintain_lake(Lake(settings), datetime.now(UTC), timedelta(days=settings.versions_kept_days))
    if as_json:
        emit_json([asdict(result) for result in results])
        refuse_failed(results)
        return
    out.print(
        table(
            "Tables",
            ("table", "dates compacted", "files merged", "written", "removed", "checkpoint", "left for next time"),
            [
                (
                    result.table, result.dates_compacted, result.files_merged, result.files_written, result.files_removed,
                    result.is_checkpointed, "; ".join(result.skipped) or ("✗" if result.failed else None),
                )
                for result in results
            ],
        )
    )  # fmt: skip
    refuse_failed(results)
