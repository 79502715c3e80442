"""A whole platform of its own for a test: Dagster's web server and daemon as processes, and what they say by GraphQL.

Every question here is one that the UI asks. Nothing looks into Dagster's storage, and nothing sleeps: ``until`` looks
again until the answer is as wanted, and says what it saw last when it never was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

from iot_platform.local.dagster_ui import DagsterUI
from iot_platform.local.process import wait_until
from iot_platform_tests.integration.stream import Stream

# Twenty times what the slowest step takes on an idle machine: a deadline is for a hang, not for a busy machine.
PATIENCE_SECONDS = 300
POLL_SECONDS = 1.0  # the web server has to answer each look, and runs share the machine with it
Answer = TypeVar("Answer")

MATERIALIZATIONS = """
query ($key: AssetKeyInput!, $dates: [String!]) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetMaterializations(partitions: $dates, limit: 500) { partition runId timestamp metadataEntries {
    label ... on IntMetadataEntry { intValue } } } } } }
"""
CHECKS = """
query ($key: AssetKeyInput!, $check: String!) { assetCheckExecutions(assetKey: $key, checkName: $check, limit: 500) {
  partition status runId evaluation { severity description metadataEntries {
    label ... on MarkdownMetadataEntry { mdStr } } } } }
"""
RUNS = """
query ($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 200) { ... on Runs { results {
  runId status tags { key value } assetSelection { path } } } } }
"""
LAUNCH = """
mutation ($backfill: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $backfill) { __typename
  ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status
  runs { runId status tags { key value } }
  assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
    assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed } } } } } }
"""
RUN = """
mutation ($run: ExecutionParams!) { launchRun(executionParams: $run) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
FRESHNESS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  freshnessStatusInfo { freshnessStatus } } } }
"""


def key_of(table: str) -> dict[str, list[str]]:
    return {"path": table.split("/")}


@dataclass(frozen=True)
class Made:
    """A date of a table as Dagster knows it was made last."""

    day: date
    run: str
    at: float
    rows: int | None


@dataclass(frozen=True)
class Checked:
    """The newest result of a check on a date; ``offending`` is the Markdown table that it shows."""

    day: date
    status: str
    run: str
    severity: str
    offending: str


@dataclass(frozen=True)
class Deployment:
    """What a test of the running platform needs at hand."""

    stream: Stream
    ui: DagsterUI

    def made(self, table: str, days: Iterable[date]) -> dict[date, Made]:
        """The newest materialization of each of these dates that has one."""
        found = self.ui.ask(MATERIALIZATIONS, key=key_of(table), dates=[day.isoformat() for day in days])
        newest: dict[date, Made] = {}
        for event in found["assetNodeOrError"]["assetMaterializations"]:  # newest first
            entries = {entry["label"]: entry.get("intValue") for entry in event["metadataEntries"]}
            day = date.fromisoformat(event["partition"])
            rows = entries.get("dagster/partition_row_count")
            newest.setdefault(day, Made(day, event["runId"], float(event["timestamp"]), rows))
        return newest

    def checked(self, table: str, check: str) -> dict[date, Checked]:
        """The newest finished result of the check on each date that has one."""
        newest: dict[date, Checked] = {}
        for one in self.ui.ask(CHECKS, key=key_of(table), check=check)["assetCheckExecutions"]:  # newest first
            if not one["partition"] or not one["evaluation"]:
                continue
            day, evaluation = date.fromisoformat(one["partition"]), one["evaluation"]
            shown = {entry["label"]: entry.get("mdStr", "") for entry in evaluation["metadataEntries"]}
            found = Checked(day, one["status"], one["runId"], evaluation["severity"], shown.get("offending", ""))
            newest.setdefault(day, found)
        return newest

    def runs(self, **filters: Any) -> list[dict[str, Any]]:
        return self.ui.ask(RUNS, filter=filters)["runsOrError"]["results"]

    def freshness(self, table: str) -> str:
        info = self.ui.ask(FRESHNESS, key=key_of(table))["assetNodeOrError"]["freshnessStatusInfo"]
        return info["freshnessStatus"] if info else "NOT_APPLICABLE"

    def launch_backfill(self, tables: Iterable[str], days: Iterable[date]) -> str:
        """What the button of the UI sends; the backfill's id."""
        chosen = {
            "partitionNames": [day.isoformat() for day in days],
            "assetSelection": [key_of(table) for table in tables],
        }
        answer = self.ui.ask(LAUNCH, backfill=chosen)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return answer["backfillId"]

    def run_check(self, table: str, check: str, day: date) -> str:
        """What the button of a check sends for one date: the check alone, no table is made; the run's id."""
        run = {
            "selector": {
                "repositoryName": "__repository__", "repositoryLocationName": "iot_platform.definitions",
                "jobName": "__ASSET_JOB", "assetSelection": [],
                "assetCheckSelection": [{"assetKey": key_of(table), "name": check}],
            },
            "runConfigData": "{}", "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": day.isoformat()}]},
        }  # fmt: skip
        answer = self.ui.ask(RUN, run=run)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def wait_for_check(self, table: str, check: str, day: date, status: str) -> Checked:
        """The newest result of the check on the date, once it is this one."""
        found = until(
            lambda: self.checked(table, check),
            lambda seen: day in seen and seen[day].status == status,
            f"{check} of {table} {day} {status}",
        )
        return found[day]

    def backfill(self, identity: str) -> dict[str, Any]:
        return self.ui.ask(BACKFILL, id=identity)["partitionBackfillOrError"]

    def ended_backfill(self, identity: str) -> dict[str, Any]:
        """The backfill once it came to an end."""
        return until(
            lambda: self.backfill(identity),
            lambda found: found["status"] not in {"REQUESTED", "FAILING", "CANCELING"},
            f"the backfill {identity} ends",
        )

    def wait_for_rows(self, table: str, rows: Mapping[date, int]) -> dict[date, Made]:
        """The newest materializations of these dates once they say that many rows."""
        return until(
            lambda: self.made(table, rows),
            lambda found: {day: found[day].rows for day in rows if day in found} == dict(rows),
            f"{table} has {dict(rows)}",
        )


def until(look: Callable[[], Answer], is_wanted: Callable[[Answer], bool], what: str) -> Answer:
    """The first answer that is as wanted; an ``AssertionError`` that shows the last one when none was in time."""
    last: list[Answer] = []

    def looked() -> bool:
        last[:] = [look()]
        return is_wanted(last[0])

    assert wait_until(looked, PATIENCE_SECONDS, POLL_SECONDS), f"not within {PATIENCE_SECONDS} s: {what}; seen last: {last}"
    return last[0]
