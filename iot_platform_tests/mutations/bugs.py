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
        "edge-triggered late data",  # the level is taken when the date is done, and not with the inputs it was made from
        (
            Change(
                "iot_platform/engines/materialize.py",
                '        reach("derived.before_commit")\n',
                '        reach("derived.before_commit")\n        needed = Levels(lake).needed(transform, day)\n',
            ),
        ),
        (f"{RACES}::test_what_lands_while_a_date_is_made_is_in_it_after_the_next_look",),
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
