"""Gathering loses nothing that comes in while it looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from iot_platform.alerts.gather import Gatherer
from iot_platform_tests.assets.small_lake import SmallLake

FIRST, SECOND = (dg.AssetCheckKey(dg.AssetKey(["silver", "readings"]), name) for name in ("first", "second"))


def test_a_result_that_comes_between_the_questions_is_found_by_the_next_look(
    small: SmallLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        storage = instance.event_log_storage
        ask = storage.get_asset_check_partition_info

        def report(key: dg.AssetCheckKey, passed: bool) -> None:
            instance.report_runless_asset_event(dg.AssetCheckEvaluation(key.asset_key, key.name, passed, {}))

        def slow(keys: list[dg.AssetCheckKey], after_storage_id: int | None = None) -> list[Any]:
            found = list(ask([FIRST], after_storage_id))
            report(FIRST, False)
            report(SECOND, True)
            return [*found, *ask([SECOND], after_storage_id)]

        gatherer = Gatherer(instance, small.lake, [], [FIRST, SECOND])
        oldest = datetime.now(UTC) - timedelta(days=1)
        report(FIRST, True)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "get_asset_check_partition_info", slow)
            results, seen = gatherer.check_results(None, oldest)
        assert {(one.check, one.passed) for one in results} == {("first", True), ("second", True)}
        results, seen = gatherer.check_results(seen, oldest)
        assert {one.check: one.passed for one in results} == {"first": False, "second": True}  # the newest comes last
        again, last = gatherer.check_results(seen, oldest)
        assert (again, last) == (results, seen), "what is read again says the same"
