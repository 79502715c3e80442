"""Late data heals itself: whatever the order of arrivals, runs and kills, the tables end as a recomputation gives them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from datetime import date

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seed_of
from hypothesis.stateful import run_state_machine_as_test

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.settings import Settings
from iot_platform_tests.faults.late.machine import LateData, Played
from iot_platform_tests.faults.late.oracle import silver
from iot_platform_tests.faults.record import FaultRecord

ROUNDS = 100
STEPS_OF = 13  # the seed of every test run: landings, kills, lost checkpoints, erasures, a redrive and runs in 42 steps


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
    run_state_machine_as_test(seed_of(number)(machine), settings=chosen)
    return played


def test_any_interleaving_ends_in_what_a_recomputation_gives(
    engine: DuckDBEngine, request: pytest.FixtureRequest, fault_record: FaultRecord
) -> None:
    """The same steps each time, unless ``--fault-seed`` says others: new ones are looked for by the long test."""
    given = request.config.getoption("--fault-seed")
    number = STEPS_OF if given is None else given
    record(fault_record, play(engine, number, 3, 14), number)


def test_a_week_is_summed_up_over_closed_dates_as_they_stand(engine: DuckDBEngine) -> None:
    """Bounds that are declared when a date is closed hold for open dates only, which look back on the date as it is."""
    machine = type("LateDataScene", (LateData,), {"engine": engine, "played": Played()})()
    closed = date(2026, 3, 7)
    machine.begin_with_a_history(shuffle=490, days=4, crowded=7)
    machine.close_and_expire(kept=2, settles=True)
    machine.declare_bounds(low=-1.0, high=30.0)
    assert machine.world.kept[closed].keys() > silver(machine.world, closed).keys(), "nothing here that a new bound refuses"
    machine.teardown()  # it settles, and holds every table against the recomputation


@pytest.mark.long
@pytest.mark.timeout(4 * 3_600)
def test_a_hundred_rounds_of_any_interleaving_end_in_what_a_recomputation_gives(
    engine: DuckDBEngine, seed: int, again: str, fault_record: FaultRecord
) -> None:
    record(fault_record, rounds(engine, range(seed, seed + ROUNDS), again), seed)


def rounds(engine: DuckDBEngine, seeds: range, again: str) -> Played:
    """Play a round of each seed; one that fails says how to begin with it."""
    total = Played()
    for number in seeds:
        try:
            played = play(engine, number, 3, 25)
        except BaseException as error:
            error.add_note(f"{again.rpartition(' ')[0]} {number}")
            raise
        total = Played(*(one + other for one, other in zip(astuple(total), astuple(played), strict=True)))
    return total


def record(fault_record: FaultRecord, played: Played, seed: int) -> None:
    fault_record(
        fault="7 any interleaving", injections=played.faults, messages=played.messages, lost=played.lost,
        duplicated=played.duplicated, seed=seed,
    )  # fmt: skip
