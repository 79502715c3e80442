"""The conservation check fails when a row vanished or appeared, and says how many."""

from __future__ import annotations

from iot_platform.checks.conservation import conserves
from iot_platform.lake.levels import Levels
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import D, SmallLake
from iot_platform_tests.checks.rows import usable


def settle(small: SmallLake, usable_rows: int) -> None:
    levels = Levels(small.lake)
    small.put(
        "silver/readings", D, [usable(n) for n in range(usable_rows)],
        level=levels.needed(TRANSFORMS["silver/readings"], D),
    )  # fmt: skip
    small.put("silver/rejected_readings", D, [], level=levels.needed(TRANSFORMS["silver/rejected_readings"], D))


def test_every_row_accounted_for_passes(small: SmallLake) -> None:
    small.day(readings=4)
    settle(small, 4)
    outcome = conserves(small.lake, D)
    assert outcome.passed and outcome.metadata["bronze"] == 4 and outcome.metadata["difference"] == 0


def test_a_lost_row_fails(small: SmallLake) -> None:
    small.day(readings=4)
    settle(small, 3)
    outcome = conserves(small.lake, D)
    assert not outcome.passed and outcome.description.startswith("1 row(s) of Bronze are neither")


def test_an_invented_row_fails(small: SmallLake) -> None:
    small.day(readings=4)
    settle(small, 6)
    outcome = conserves(small.lake, D)
    assert not outcome.passed and outcome.description.startswith("2 row(s) are in Silver or rejected that Bronze")


def test_rows_that_wait_for_their_silver_are_no_loss(small: SmallLake) -> None:
    small.day(readings=4)
    outcome = conserves(small.lake, D)
    assert outcome.passed and outcome.metadata["pending"] == 4
