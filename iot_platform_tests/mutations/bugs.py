"""The bugs: an exact text of the source and what takes its place, and the tests that must turn red.

They are those that comparable projects have: what is promised most is what must be held most.
"""

from __future__ import annotations

from dataclasses import dataclass

LATE = "iot_platform_tests/faults/late/test_one_effect.py"
RACES = "iot_platform_tests/faults/test_late_races.py"
SILVER = "iot_platform_tests/transforms/test_silver.py"
HEALTH = "iot_platform_tests/transforms/test_health.py"


@dataclass(frozen=True)
class Change:
    """One text of one file (path from the project's root), which stands there exactly once, and the text in its place."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    """A bug by its name, how the code gets it, and the tests (pytest's node ids) that have to notice."""

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]


ORDER = "                order by b.kafka_timestamp, b.topic, b.kafka_partition, b.kafka_offset\n"

BUGS: tuple[Bug, ...] = (
    Bug(
        "dropped txnVersion",
        (
            Change(
                "iot_platform/ingest/transactions.py",
                "        if last is not None and last >= version:\n",
                "        if last is not None and last == FENCED != version:\n",
            ),
        ),
        (f"{LATE}::test_a_batch_that_two_streams_land_at_once_is_there_once",),
    ),
    Bug(
        "start at the broker's end",  # a stream whose checkpoint is lost takes what comes from now on
        (
            Change(
                "iot_platform/ingest/generation.py",
                "            partition: min(max(span.low, ends.get(topic, {}).get(partition, span.low)), span.high)\n",
                "            partition: span.high if ends else span.low\n",
            ),
        ),
        (f"{LATE}::test_what_nobody_landed_when_the_checkpoint_was_lost_is_landed_then",),
    ),
    Bug(
        "edge-triggered late data",  # a look asks for what landed since the last look, whatever became of that
        (
            Change(
                "iot_platform/automation/level_sensor.py",
                "    stale = levels.stale()\n",
                '    seen = lake.settings.home / "seen-by-the-sensor"\n'
                '    cursor = int(seen.read_text()) if seen.exists() else 0\n'
                '    landed = levels.snapshot("bronze/readings").sequences\n'
                '    fresh = [day for day, sequence in landed.items() if sequence > cursor]\n'
                '    stale = levels.stale(day + timedelta(days=n) for day in fresh for n in range(7))\n'
                '    seen.write_text(str(max([cursor, *landed.values()])))\n',
            ),
        ),
        (f"{RACES}::test_a_lost_tick_heals",),
    ),
    Bug(
        "level of the commit",  # the level is taken when the date is done, and not with the inputs it was made from
        (
            Change(
                "iot_platform/engines/materialize.py",
                '        reach("derived.before_commit")\n',
                '        reach("derived.before_commit")\n        needed = Levels(lake).needed(transform, day)\n',
            ),
        ),
        tuple(
            f"{RACES}::test_what_lands_while_a_date_is_made_is_in_it_after_the_next_look[{table}]"
            for table in ("silver/readings", "gold/daily_summary")
        ),
    ),
    Bug(
        "non-atomic date replace",
        (
            Change(
                "iot_platform/lake/lake.py",
                "                predicate=f\"{contract.partition} = '{day.isoformat()}'\" if day else None,\n",
                "",
            ),
            Change(
                "iot_platform/lake/lake.py",
                '                rows,\n                mode="overwrite",\n',
                '                rows,\n                mode="append" if day else "overwrite",\n',
            ),
            Change(
                "iot_platform/lake/lake.py",
                "        try:\n            write_deltalake(\n",
                "        if day:\n            delta.delete(f\"{contract.partition} = '{day.isoformat()}'\")\n"
                "        try:\n            write_deltalake(\n",
            ),
        ),
        (f"{LATE}::test_no_version_of_a_table_lacks_a_date_that_is_made_again",),
    ),
    Bug(
        "dedupe without order",
        (
            Change("iot_platform/transforms/silver_readings.sql", ORDER, ""),
            Change("iot_platform/transforms/silver_rejected_readings.sql", ORDER, ""),
        ),
        (f"{SILVER}::test_first_arrival_wins_whatever_the_order_of_the_rows",),
    ),
    Bug(
        "health from present rows",
        (
            Change(
                "iot_platform/transforms/gold_sensor_health.sql",
                "    left join counted c on c.device_id = e.device_id",
                "    join counted c on c.device_id = e.device_id",
            ),
        ),
        (f"{HEALTH}::test_a_silent_device_has_rows_with_zero_percent_also_when_nothing_arrived",),
    ),
)
