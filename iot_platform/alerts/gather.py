"""Gathers the facts: one look at Dagster's record, the lake and the broker, each bounded, none of which stops the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from iot_platform.alerts.facts import CheckResult, Facts, Freshness, Ingest, partition_date
from iot_platform.alerts.failed_runs import FailedRuns
from iot_platform.assets.metadata import table_of
from iot_platform.checks.history import AT_ONCE, READ_AGAIN, evaluations, newest_evaluation
from iot_platform.errors import PlatformError, ServiceError
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import Levels

BROKER_SECONDS = 2.0
RESULTS_AT_MOST = 500  # failed results of one check read in a look


@dataclass
class Gatherer:
    """Looks at everything. ``assets`` and ``checks``: those of the code location."""

    instance: dg.DagsterInstance
    lake: Lake
    assets: Collection[dg.AssetKey]
    checks: Collection[dg.AssetCheckKey]
    runs: FailedRuns = field(default_factory=FailedRuns)

    def look(
        self, now: datetime, checks_seen: int | None, forget: timedelta, failed_runs: Collection[str] = ()
    ) -> tuple[Facts, int | None]:
        """The facts, and up to which of Dagster's events the checks were read. ``failed_runs``: ids of those that are known
        to have failed, and are to be looked at however old they are."""
        oldest = now - forget
        results, seen = self.check_results(checks_seen, oldest)
        facts = Facts(
            now,
            runs=self.runs.look(self.instance, oldest, failed_runs),
            checks=results,
            freshness=list(self.freshness()),
        )
        problems: list[str] = []
        try:
            facts = replace(facts, stale=self.stale())
        except PlatformError as error:
            problems.append(str(error))
        try:
            facts = replace(facts, ingest=self.ingest())
        except PlatformError as error:
            problems.append(str(error))
        return replace(facts, problems=tuple(problems)), seen

    def check_results(self, seen: int | None, oldest: datetime) -> tuple[list[CheckResult], int | None]:
        """The results of checks since the event ``seen``, oldest first, and the newest event; at first the newest result of
        each check and date. Some that were seen before come again, since a log on a server shows events out of order."""
        newest = newest_evaluation(self.instance)
        if seen is None or newest < seen:  # a first look, or another log
            return list(self._newest_results(oldest)), newest
        known = set(self.checks)
        records = evaluations(self.instance, max(0, seen - READ_AGAIN), AT_ONCE)
        found: list[CheckResult] = []
        for record in records:
            event = record.event_log_entry.dagster_event
            evaluation = event.asset_check_evaluation_data if event else None
            if evaluation and evaluation.asset_check_key in known:
                at = datetime.fromtimestamp(record.timestamp, UTC)
                found.append(_result(evaluation, evaluation.partition, record.run_id, at))
        return [one for one in found if one.passed or (one.at and one.at >= oldest)], (
            records[-1].storage_id if len(records) == AT_ONCE else newest
        )

    def _newest_results(self, oldest: datetime) -> Iterator[CheckResult]:
        from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

        failed: dict[dg.AssetCheckKey, set[str | None]] = {}
        for info in self.instance.event_log_storage.get_asset_check_partition_info(list(self.checks)):
            if info.latest_execution_status == Status.FAILED:
                failed.setdefault(info.check_key, set()).add(info.partition_key)
            elif info.latest_execution_status == Status.SUCCEEDED:  # and not one that is still to come
                key = info.check_key
                yield CheckResult(table_of(key.asset_key), key.name, partition_date(info.partition_key), True)
        for key, partitions in failed.items():
            yield from self._failed(key, partitions, oldest)

    def _failed(self, key: dg.AssetCheckKey, partitions: Collection[str | None], oldest: datetime) -> Iterator[CheckResult]:
        from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

        records = self.instance.event_log_storage.get_asset_check_execution_history(
            key, limit=RESULTS_AT_MOST, status={Status.FAILED}
        )
        told: set[str | None] = set()
        for record in records:
            evaluation = record.evaluation
            if record.partition in told or record.partition not in partitions or evaluation is None or not record.event:
                continue
            told.add(record.partition)
            at = datetime.fromtimestamp(record.event.timestamp, UTC)
            if at >= oldest:
                yield _result(evaluation, record.partition, record.run_id, at)

    def freshness(self) -> Iterator[Freshness]:
        """How Dagster's freshness daemon judges each asset."""
        for key, record in self.instance.get_freshness_state_records(list(self.assets)).items():
            yield Freshness(table_of(key), record.freshness_state.value, record.updated_at)

    def stale(self) -> dict[tuple[str, date], int]:
        """Every stale date by table, with the level that it was made from."""
        levels = Levels(self.lake)
        return {(table, day): levels.recorded(table, day) for table, days in levels.stale().items() for day in days}

    def ingest(self) -> Ingest:
        """How far Bronze is behind Kafka, and who ingests. Raises ``LakeError`` for Bronze that cannot be read."""
        from iot_platform.ingest.lag import committed_offsets, lag
        from iot_platform.ingest.standing import standing

        settings = self.lake.settings
        stands = standing(settings)
        ingesting = stands.said
        failing: dict[str, Any] = {}
        if stands.state == "failing" and stands.supervision and stands.supervision.failing_since:
            failing = {"failing": stands.said, "failing_since": datetime.fromisoformat(stands.supervision.failing_since)}
        try:
            found = lag(settings, BROKER_SECONDS)
        except ServiceError as error:
            ends = committed_offsets(settings)
            return Ingest(None, sum(sum(of.values()) for of in ends.values()), ingesting, str(error), **failing)
        behind = {topic: one.lag for topic, one in found.items()}
        return Ingest(behind, sum(one.committed_offset for one in found.values()), ingesting, **failing)


def _result(evaluation: dg.AssetCheckEvaluation, partition: str | None, run_id: str, at: datetime) -> CheckResult:
    return CheckResult(
        table_of(evaluation.asset_key), evaluation.check_name, partition_date(partition), evaluation.passed,
        evaluation.severity == dg.AssetCheckSeverity.ERROR, _one_line(evaluation.description or ""), run_id or None, at,
    )  # fmt: skip


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
