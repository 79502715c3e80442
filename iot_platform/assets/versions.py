"""Versions as Dagster records them on a materialization, so that its UI can tell what is outdated.

Dagster writes these tags itself on what a step returns. What a step or a sensor reports on its own account (dates outside
the run, the good dates of a failed step) needs them from here, or these dates would look as if nothing made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.event_api import EventLogRecord

# A registry's change bears on certain dates, and levels say on which (ADR 0002). As a version of its own it would show every
# date of every table that reads the registry as outdated, for good.
BY_LEVEL = dg.DataVersion("by level")


def level_tags(level: int) -> dict[str, str]:
    """The version of an input date is its level: it changes when something new landed, and with nothing else."""
    from dagster._core.definitions.data_version import DATA_VERSION_IS_USER_PROVIDED_TAG, DATA_VERSION_TAG

    return {DATA_VERSION_TAG: str(level), DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}


def provenance_tags(instance: dg.DagsterInstance, inputs: Sequence[dg.AssetKey], code_version: str) -> dict[str, str]:
    """What Dagster itself notes of a table made now: by which code, and from which materializations of its inputs."""
    from dagster._core.definitions.data_version import (
        CODE_VERSION_TAG,
        DATA_VERSION_TAG,
        DEFAULT_DATA_VERSION,
        NULL_EVENT_POINTER,
        compute_logical_data_version,
        extract_data_version_from_entry,
        get_input_data_version_tag,
        get_input_event_pointer_tag,
    )

    records = {
        record.asset_entry.asset_key: record.asset_entry.last_materialization_record
        for record in instance.get_asset_records(inputs)
    }
    newest: dict[dg.AssetKey, EventLogRecord | None] = {key: records.get(key) for key in inputs}
    versions = {
        key: (record and extract_data_version_from_entry(record.event_log_entry)) or DEFAULT_DATA_VERSION
        for key, record in newest.items()
    }
    tags = {
        CODE_VERSION_TAG: code_version,
        DATA_VERSION_TAG: compute_logical_data_version(code_version, versions).value,
    }
    for key, record in newest.items():
        tags[get_input_data_version_tag(key)] = versions[key].value
        tags[get_input_event_pointer_tag(key)] = str(record.storage_id) if record else NULL_EVENT_POINTER
    return tags
