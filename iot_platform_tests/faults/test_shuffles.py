"""However the same messages are shuffled, spread over partitions and cut into batches: the tables are the same (row 7)."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seed_of
from hypothesis import strategies as st

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.engines.protocol import Engine
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.faults.late.compare import KEYS
from iot_platform_tests.faults.late.fleet import MINUTE, Fleet, Piece, pieces
from iot_platform_tests.faults.late.lakes import Scene
from iot_platform_tests.faults.late.machine import DEVICE_COLUMNS
from iot_platform_tests.faults.late.messages import Log, Said
from iot_platform_tests.faults.places import Count
from iot_platform_tests.faults.record import FaultRecord
from iot_platform_tests.parity.close import differences

# What tells how a reading came, and not what it says.
OF_ARRIVAL = {"topic", "kafka_partition", "kafka_offset", "kafka_timestamp", "ingest_seq", "is_late", "processed_at"}
IDENTITY = {"silver/readings": ("event_id", "metric"), "silver/rejected_readings": ("event_id", "metric", "reason")}
Rows = dict[tuple[Any, ...], list[dict[str, Any]]]
SHUFFLED = "7 duplicates, out of order, days late: any shuffle"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    home = tmp_path_factory.mktemp("shuffle-engine")
    made = DuckDBEngine(Settings(home=home, _env_file=None))  # pyright: ignore[reportCallIssue]
    yield made
    made.close()


def messages(drawn: list[Piece], chance: random.Random) -> list[Said]:
    """What the fleet says, with a fifth of it said twice: the same bytes again, since the first to arrive counts."""
    fleet = Fleet(Log())
    fleet.say(drawn, chance, MINUTE)
    return fleet.said + [said for said in fleet.said if chance.random() < 0.2]


def landed(engine: Engine, sent: list[Said], chance: random.Random | None) -> tuple[dict[str, Rows], Count]:
    """All tables after these messages: in the order of their times, at once; or shuffled, in batches, with runs between."""
    home = Path(tempfile.mkdtemp(prefix="shuffle-"))
    try:
        chosen = Settings(home=home, _env_file=None)  # pyright: ignore[reportCallIssue]
        _declare(chosen, sent)
        scene = Scene(Lake(chosen), engine)
        batches = [sorted(sent, key=lambda said: said.moment)]
        if chance:
            shuffled = chance.sample(sent, len(sent))
            cuts = sorted(chance.randrange(len(sent) + 1) for _ in range(chance.randint(1, 4)))
            batches = [shuffled[first:until] for first, until in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
        for batch in batches:
            # The broker's clock is the same in both: the newest time that came, and with it health, is then too.
            scene.fleet.send([*batch], chance or random.Random(0))
            scene.stream.drain()
            if chance and chance.random() < 0.5:
                _make_some(scene, chance)
        scene.settle()
        return {table: content(scene.lake, table) for table in KEYS}, scene.counted()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _make_some(scene: Scene, chance: random.Random) -> None:
    for table, days in scene.stale().items():
        for day in days:
            if chance.random() < 0.5:
                scene.make(table, day)


def _declare(chosen: Settings, sent: list[Said]) -> None:
    """Declare every device: what is inferred of one goes by its first arrivals, and those differ."""
    contracts = {said.device: said.contract for said in sent}
    chosen.declarations.mkdir(parents=True)
    lines = [f"{device},{contract},,,,,,900,2026-03-09T00:00:00Z," for device, contract in sorted(contracts.items())]
    (chosen.declarations / "devices.csv").write_text("\n".join([DEVICE_COLUMNS, *lines]) + "\n")


def content(lake: Lake, table: str) -> Rows:
    found: Rows = {}
    for row in lake.snapshot(table).delta.to_pyarrow_table().to_pylist():
        key = (row["event_date"], *(row[name] for name in IDENTITY.get(table, KEYS[table])))
        found.setdefault(key, []).append({name: value for name, value in row.items() if name not in OF_ARRIVAL})
    return found


def same_both_ways(engine: Engine, drawn: list[Piece], number: int) -> dict[str, int]:
    """Compare the two; what there was of messages, and of them lost or twice."""
    chance = random.Random(number)
    sent = messages(drawn, chance)
    (straight, first), (shuffled, second) = landed(engine, sent, None), landed(engine, sent, chance)
    for counted in (first, second):
        counted.assert_exact()
    for table in KEYS:
        assert straight[table].keys() == shuffled[table].keys(), table
        columns = [column.name for column in TRANSFORMS[table].columns if column.name not in OF_ARRIVAL]
        for key, rows in straight[table].items():
            twins = shuffled[table][key]
            assert len(rows) == len(twins), f"{table} {key}"
            wrong = differences(rows[0], twins[0], columns, scale=1e6)
            assert not wrong, f"{table} {key}: {'; '.join(wrong)}"
    return second.counts


def play(engine: Engine, number: int, examples: int) -> tuple[int, dict[str, int]]:
    """How many shuffles were compared, and what there was of messages; the number decides which."""
    counts: list[dict[str, int]] = []

    @seed_of(number)
    @settings(
        max_examples=examples, phases=[Phase.generate], deadline=None, database=None, print_blob=False,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(drawn=pieces, shuffle=st.integers(0, 2**32))
    def compare(drawn: list[Piece], shuffle: int) -> None:
        counts.append(same_both_ways(engine, drawn, shuffle))

    compare()
    return len(counts), {name: sum(one[name] for one in counts) for name in counts[0]}


def test_shuffled_messages_give_the_same_tables(engine: DuckDBEngine, seed: int, fault_record: FaultRecord) -> None:
    shuffles, counts = play(engine, seed, 3)
    fault_record(fault=SHUFFLED, injections=shuffles, seed=seed, **counts)


@pytest.mark.long
@pytest.mark.timeout(1_200)
def test_messages_shuffled_a_hundred_times_give_the_same_tables(
    engine: DuckDBEngine, seed: int, fault_record: FaultRecord
) -> None:
    shuffles, counts = play(engine, seed, 100)
    fault_record(fault=SHUFFLED, injections=shuffles, seed=seed, **counts)
