"""One date is replaced whole, beside its neighbours, once per level; what cannot be read or written says so in a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from iot_platform.contracts.arrow import arrow_schema
from iot_platform.contracts.tables import TABLES
from iot_platform.errors import InputError, LakeError
from iot_platform.lake import Lake
from iot_platform.lake.snapshot import forced_id
from iot_platform_tests.lake.conftest import Put, p95_row

TABLE = "gold/duration_p95"
D1, D2 = date(2026, 2, 27), date(2026, 2, 28)


def types_on(lake: Lake, day: date) -> list[str]:
    rows = lake.snapshot(TABLE).delta.to_pyarrow_table().to_pylist()
    return sorted(row["device_type"] for row in rows if row["event_date"] == day)


def test_a_table_that_was_never_made_is_empty_and_has_its_declared_columns(lake: Lake) -> None:
    for name, contract in TABLES.items():
        snapshot = lake.snapshot(name)
        assert snapshot.rows == 0
        assert snapshot.files() == []
        assert [field.name for field in snapshot.delta.schema().fields] == list(contract.column_names)


def test_replacing_a_date_leaves_its_neighbours_untouched(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1, "light"), p95_row(D1, "motion")], level=1)
    put(TABLE, D2, [p95_row(D2, "light")], level=1)
    put(TABLE, D1, [p95_row(D1, "humidity")], level=2)
    assert types_on(lake, D1) == ["humidity"]
    assert types_on(lake, D2) == ["light"]
    assert lake.snapshot(TABLE).rows_by_date == {D1: 1, D2: 1}


def test_a_date_replaced_by_nothing_is_empty_and_keeps_its_level(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1)], level=1)
    put(TABLE, D1, [], level=9)
    snapshot = lake.snapshot(TABLE)
    assert snapshot.rows_by_date == {}
    assert snapshot.recorded_level(D1) == 9


def test_older_or_equal_inputs_are_refused(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1, "light")], level=7)
    for level in (6, 7):
        with pytest.raises(LakeError, match="newer inputs"):
            put(TABLE, D1, [p95_row(D1, "motion")], level=level)
    assert types_on(lake, D1) == ["light"]


def test_a_reader_of_a_pinned_version_does_not_see_what_is_committed_meanwhile(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1, "light")], level=1)
    pinned = lake.snapshot(TABLE)
    put(TABLE, D1, [p95_row(D1, "motion"), p95_row(D1, "humidity")], level=2)
    assert pinned.rows == 1
    assert lake.snapshot(TABLE, pinned.version).rows == 1
    assert lake.snapshot(TABLE).rows == 2


def commit_during_commit(lake: Lake, put: Put, day: date) -> None:
    """Replace ``day``, and while its rows are being read, D1 by "winner"."""
    schema = arrow_schema(TABLES[TABLE])

    def batches() -> Iterator[pa.RecordBatch]:
        # A thread of its own: delta-rs does not start a commit from within a commit.
        with ThreadPoolExecutor(1) as other:
            other.submit(put, TABLE, D1, [p95_row(D1, "winner")], level=10).result()
        yield pa.RecordBatch.from_pylist([p95_row(day, "outer")], schema=schema)

    lake.replace(TABLE, day, pa.RecordBatchReader.from_batches(schema, batches()), level=99, inputs={})


@pytest.mark.parametrize("first", [True, False], ids=["empty date", "date with rows"])
def test_two_writers_of_one_date_do_not_both_win(lake: Lake, put: Put, first: bool) -> None:
    if not first:
        put(TABLE, D1, [p95_row(D1)], level=1)
    with pytest.raises(LakeError, match="another run wrote this date"):
        commit_during_commit(lake, put, D1)
    assert types_on(lake, D1) == ["winner"]


def test_two_writers_of_two_dates_both_win(lake: Lake, put: Put) -> None:
    commit_during_commit(lake, put, D2)
    assert (types_on(lake, D1), types_on(lake, D2)) == (["winner"], ["outer"])


def test_forcing_a_date_raises_a_count_and_no_row(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1)], level=1)
    lake.force(TABLE, D1)
    lake.force(TABLE, D1)
    snapshot = lake.snapshot(TABLE)
    assert (snapshot.forced(D1), snapshot.forced(D2), snapshot.rows) == (2, 0, 1)
    assert snapshot.recorded_level(D1) == 1


def test_of_two_that_force_a_date_at_once_one_is_enough_and_another_mark_comes_after(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1)], level=1)
    slower, slowest = lake.writable(TABLE), lake.writable(TABLE)
    lake.force(TABLE, D1)
    lake.commit_transaction(slower, forced_id(D1), 1)
    assert lake.snapshot(TABLE).forced(D1) == 1
    lake.commit_transaction(slowest, forced_id(D1), 5)
    assert lake.snapshot(TABLE).forced(D1) == 5


def test_the_commit_says_what_it_was_made_from(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1)], level=4)
    newest = lake.snapshot(TABLE).delta.history(1)[0]
    assert json.loads(newest["userMetadata"]) == {
        "table": TABLE, "date": "2026-02-27", "level": 4, "inputs": {"bronze/readings": 3},
    }  # fmt: skip


def test_a_torn_log_is_one_clear_line(lake: Lake, put: Put) -> None:
    put(TABLE, D1, [p95_row(D1)], level=1)
    torn = Path(lake.path(TABLE)) / "_delta_log" / "00000000000000000002.json"
    torn.write_text('{"add":{"pa')
    with pytest.raises(LakeError) as caught:
        lake.snapshot(TABLE)
    assert "gold/duration_p95: the Delta log" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_clear_line(lake: Lake) -> None:
    place = Path(lake.root)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("a file where a folder should be")
    with pytest.raises(LakeError, match="cannot write to"):
        lake.snapshot(TABLE)


def test_an_unknown_table_or_version_is_said(lake: Lake) -> None:
    with pytest.raises(InputError, match="there is no table 'gold/nothing'"):
        lake.path("gold/nothing")
    with pytest.raises(LakeError, match="no table at"):
        lake.snapshot(TABLE, version=0)
    lake.ensure(TABLE)
    with pytest.raises(LakeError, match="cannot be read"):
        lake.snapshot(TABLE, version=99)
