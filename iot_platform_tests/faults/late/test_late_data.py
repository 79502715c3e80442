"""Late data heals itself: whatever the order of arrivals, runs and kills, the tables end as a recomputation gives them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.settings import Settings
from iot_platform_tests.faults.late.machine import LateData

ROUNDS = 100


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    home = tmp_path_factory.mktemp("late-engine")
    made = DuckDBEngine(Settings(home=home, duckdb_threads=1, _env_file=None))  # pyright: ignore[reportCallIssue]
    yield made
    made.close()


def play(engine: DuckDBEngine, number: int, examples: int, steps: int) -> None:
    """Let the machine run; the number fixes every step that it takes."""
    machine = type(f"LateDataRound{number}", (LateData,), {"engine": engine})
    run_state_machine_as_test(
        seed(number)(machine),
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None, print_blob=False,
            phases=[Phase.generate, Phase.shrink], suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )  # fmt: skip


@pytest.mark.parametrize("number", range(2))
def test_any_interleaving_ends_in_what_a_recomputation_gives(engine: DuckDBEngine, number: int) -> None:
    play(engine, number, 3, 15)
