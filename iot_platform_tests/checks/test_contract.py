"""The contract check passes on what a table declares, and shows what breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from iot_platform.checks.contract import broken_before_commit, contract_holds, keys_are_unique
from iot_platform.errors import DataError
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake
from iot_platform_tests.checks.conftest import Inspect
from iot_platform_tests.checks.rows import device, health, rejected, usable


def shown(outcome: Any) -> str:
    return outcome.metadata["offending"].value


def test_good_rows_hold(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable(n) for n in range(5)])
    outcome = contract_holds(inspect(), "silver/readings", D)
    assert outcome.passed and outcome.metadata["rows"] == 5 and "offending" not in outcome.metadata


def test_a_date_without_rows_holds(small: SmallLake, inspect: Inspect) -> None:
    assert contract_holds(inspect(), "silver/readings", D).passed


def test_a_null_where_none_may_be_is_shown(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable(0), usable(1, device_id=None)])
    outcome = contract_holds(inspect(), "silver/readings", D)
    assert not outcome.passed and "device_id" in outcome.description and "device_id" in shown(outcome)


def test_a_value_outside_its_bounds_is_shown(small: SmallLake, inspect: Inspect) -> None:
    small.put("gold/sensor_health", D, [health("d1", 100), health("d2", 140)])
    outcome = contract_holds(inspect(), "gold/sensor_health", D)
    assert not outcome.passed and "140" in shown(outcome)


def test_a_value_off_the_closed_list_is_shown(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/rejected_readings", D, [rejected(reason="did not like it")])
    outcome = contract_holds(inspect(), "silver/rejected_readings", D)
    assert not outcome.passed and "did not like it" in shown(outcome)


def test_a_repeated_key_is_shown_with_how_often_and_is_no_matter_of_the_contract(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable(0), usable(1), usable(1)])
    outcome = keys_are_unique(inspect(), "silver/readings", D)
    assert not outcome.passed and outcome.figure == 1 and "| e1 | temperature | 2 |" in shown(outcome)
    assert contract_holds(inspect(), "silver/readings", D).passed


def test_a_key_may_stand_on_two_dates(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable(0)])
    small.put("silver/readings", D + DAY, [usable(0, D + DAY)])
    assert keys_are_unique(inspect(), "silver/readings", D).passed


def test_other_dates_are_not_looked_at(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable(0)])
    small.put("silver/readings", D + DAY, [usable(0, D + DAY, device_id=None)])
    assert contract_holds(inspect(), "silver/readings", D).passed
    assert not contract_holds(inspect(), "silver/readings", D + DAY).passed


@pytest.mark.parametrize(("source", "passed"), [("declared", True), ("guessed", False)])
def test_a_table_without_dates_is_checked_whole(small: SmallLake, inspect: Inspect, source: str, passed: bool) -> None:
    small.put("registry/devices", None, [device("d1"), device("d2", source)])
    assert contract_holds(inspect(), "registry/devices", None).passed is passed


def test_rows_that_broke_before_the_commit_are_told_as_not_landed() -> None:
    outcome = broken_before_commit(DataError("silver/readings 2026-03-10: 1 value(s) break the contract", "Look"))
    assert not outcome.passed and outcome.metadata["committed"] is False and "1 value(s)" in outcome.description
    assert outcome.figure == 1 and "offending" not in outcome.metadata
    known = broken_before_commit(DataError("230 value(s) break the contract", "Look", [{"event_id": "e1"}], 230))
    assert known.figure == 230 and "| e1 |" in shown(known)


def test_rows_that_break_the_same_rule_are_shown_by_their_keys_and_told_once(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable(n, device_id=None if n else "d1") for n in range(4)])
    outcome = contract_holds(inspect(), "silver/readings", D)
    assert outcome.figure == 3 and outcome.description.count("not_nullable") == 1 and "(3 times)" in outcome.description
    assert shown(outcome).splitlines()[0] == "| event_id | metric | column | check | failure_case |"
    assert [line.split(" | ")[0] for line in shown(outcome).splitlines()[2:]] == ["| e1", "| e2", "| e3"]
