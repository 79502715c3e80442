"""The judge and the watcher see what they are there to see."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform_tests.conftest import MakeSettings
from iot_platform_tests.faults.late.fleet import MINUTE
from iot_platform_tests.faults.late.lakes import Scene
from iot_platform_tests.faults.oracle import judge
from iot_platform_tests.faults.producer import Producer, Sent
from iot_platform_tests.faults.watcher import DerivedWatcher, Watcher
from iot_platform_tests.ingest.bronze import commit


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings(kafka_bootstrap="127.0.0.1:1")


def test_the_judge_counts_what_is_lost_doubled_and_in_the_wrong_place(settings: Settings) -> None:
    lake = Lake(settings)
    commit(lake, READINGS, [("t", 0, 0), ("t", 0, 1), ("t", 0, 1), ("t", 0, 3)])
    lake.ensure(QUARANTINE)
    producer = Producer(settings, seed=1, rate=0)
    sent = Sent("sensor_reading", "d", b"", ((READINGS, "pressure"),))
    producer.acknowledged |= {("t", 0, offset): sent for offset in (0, 1, 2)}
    verdict = judge(settings, producer)
    assert ([row[1] for row in verdict.lost], [row[1] for row in verdict.duplicated]) == (
        [("t", 0, 2)], [("t", 0, 1), ("t", 0, 3)],
    )  # fmt: skip
    with pytest.raises(AssertionError, match="of 3 messages 1 rows are lost"):
        verdict.assert_exact()
    producer.acknowledged.clear()
    producer.unanswered["d"] = sent  # nobody knows whether it arrived; but no row of it may stand twice
    assert [row[1] for row in judge(settings, producer).duplicated] == [("t", 0, 1)]


def test_the_watcher_sees_a_batch_that_shrinks_or_grows_and_books_that_do_not_balance(settings: Settings) -> None:
    lake, watcher = Lake(settings), Watcher(settings)
    commit(lake, READINGS, [("t", 0, 0), ("t", 0, 1)], {"offsets": {"t": {"0": [0, 2]}}, "records": 2, "messages": 2}, seq=1)
    for _ in range(2):  # by delta-rs, by DuckDB
        watcher.look()
    assert not watcher.wrong
    commit(lake, READINGS, [("t", 0, 2)], seq=1)
    watcher.look()
    DeltaTable(lake.path(READINGS)).delete("kafka_offset = 0")
    watcher.look()
    assert [wrong.partition(": OffsetLedger")[0] for wrong in watcher.wrong] == [
        f"{READINGS}: batch 1 had 2 rows, then 3", "the offsets do not balance", f"{READINGS}: batch 1 had 3 rows, then 2",
    ]  # fmt: skip


def test_the_watcher_of_derived_tables_sees_a_date_that_is_mixed_shrinks_or_is_gone(settings: Settings) -> None:
    engine = DuckDBEngine(settings)
    scene, watcher = Scene(Lake(settings), engine), DerivedWatcher(settings)
    today = scene.fleet.now.date()
    scene.land(scene.fleet.now, scene.fleet.now - MINUTE)
    scene.land(scene.fleet.now, value=30.0)
    scene.settle()
    for _ in range(2):  # by delta-rs, by DuckDB
        watcher.look()
    scene.land(scene.fleet.now - 5 * MINUTE)
    scene.settle()
    watcher.look()
    assert not watcher.wrong
    silver = DeltaTable(scene.lake.path("silver/readings"))
    silver.update(predicate="value = 30.0", updates={"processed_at": "now()"})
    watcher.look()
    silver.delete("value = 30.0")
    watcher.look()
    silver.delete()
    watcher.look()
    said = [wrong.removeprefix(f"silver/readings {today}: ").partition(" at ")[0] for wrong in watcher.wrong]
    assert said == [
        "a mix of what was made", "what was made", "there were 4 rows, then 3", "there were 3 rows, then none",
    ]  # fmt: skip
    engine.close()
