"""Late data heals itself: whatever the order of arrivals, runs and kills, the tables end as a recomputation gives them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.settings import Settings
from iot_platform_tests.faults.late.machine import LateData, Played
from iot_platform_tests.faults.record import FaultRecord

ROUNDS = 100


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    home = tmp_path_factory.mktemp("late-engine")
    made = DuckDBEngine(Settings(home=home, duckdb_threads=1, _env_file=None))  # pyright: ignore[reportCallIssue]
    yield made
    made.close()


def play(engine: DuckDBEngine, number: int, examples: int, steps: int) -> Played:
    """Let the machine run; the number fixes every step that it takes."""
    played = Played()
    machine = type(f"LateDataRound{number}", (LateData,), {"engine": engine, "played": played})
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, print_blob=False,
        phases=[Phase.generate],  # no shrinking: each of its steps would cost seconds
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip
    run_state_machine_as_test(seed(number)(machine), settings=chosen)
    return played


def test_any_interleaving_ends_in_what_a_recomputation_gives(
    engine: DuckDBEngine, request: pytest.FixtureRequest, fault_record: FaultRecord
) -> None:
    number = int(request.config.getoption("--fault-seed") or 1)
    played = play(engine, number, 3, 14)
    fault_record(fault="7 any interleaving (state machine)", injections=played.faults, messages=played.messages, seed=number)


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_hundred_rounds(
    engine: DuckDBEngine, number: int, request: pytest.FixtureRequest, fault_record: FaultRecord
) -> None:
    """A failed round is played again by its name: its number, and what --fault-seed added to it, are its seed."""
    seeded = number + int(request.config.getoption("--fault-seed") or 1_000)
    played = play(engine, seeded, 3, 25)
    fault_record(fault="7 any interleaving (state machine)", injections=played.faults, messages=played.messages, seed=seeded)
