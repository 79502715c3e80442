"""From stale dates to runs: contiguous dates with the same tables are one, what depends on another run waits."""

from __future__ import annotations

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from iot_platform.automation.planning import Made, Plan, Request, plan
from iot_platform_tests.assets.small_lake import DAY, D

READS = {"s": {}, "r": {}, "w": {"s": 0}, "sum": {"s": 6, "r": 0}}


def days(first: int, last: int) -> list[date]:
    return [D + DAY * n for n in range(first, last + 1)]


def ranges(planned: Plan) -> list[tuple[tuple[str, ...], int, int]]:
    return [(request.tables, (request.first - D).days, (request.last - D).days) for request in planned.requests]


def test_nothing_stale_asks_for_nothing() -> None:
    assert plan({"s": [], "w": []}, READS) == Plan(())


def test_contiguous_dates_with_the_same_tables_are_one_run() -> None:
    assert ranges(plan({"s": days(0, 4), "w": days(0, 4)}, READS)) == [(("s", "w"), 0, 4)]


def test_a_gap_parts_two_runs() -> None:
    assert ranges(plan({"s": [*days(0, 1), *days(3, 3)]}, READS)) == [(("s",), 0, 1), (("s",), 3, 3)]


def test_a_run_has_at_most_so_many_dates() -> None:
    assert ranges(plan({"s": days(0, 6)}, READS, max_dates=3)) == [(("s",), 0, 2), (("s",), 3, 5), (("s",), 6, 6)]


def test_what_reads_the_dates_of_another_run_waits_for_it() -> None:
    planned = plan({"s": days(0, 1), "r": days(0, 0), "w": days(0, 1), "sum": days(0, 7)}, READS)
    assert ranges(planned) == [(("s", "r", "w", "sum"), 0, 0), (("s", "w"), 1, 1)]
    assert planned.waiting == {("sum", day) for day in days(1, 7)}


def test_what_a_run_makes_is_not_asked_for_and_what_reads_it_waits() -> None:
    planned = plan({"s": days(0, 1), "w": days(0, 1)}, READS, in_progress={("s", D)})
    assert ranges(planned) == [(("s", "w"), 1, 1)]
    assert planned.waiting == {("s", D), ("w", D)}


def test_a_failed_check_blocks_what_reads_the_date_until_it_is_made_again() -> None:
    planned = plan({"s": [], "w": days(0, 2)}, READS, failing={("s", D + DAY)})
    assert ranges(planned) == [(("w",), 0, 0), (("w",), 2, 2)]
    assert planned.blocked == {("w", D + DAY)}
    again = plan({"s": days(1, 1), "w": days(0, 2)}, READS, failing={("s", D + DAY)})
    assert ranges(again) == [(("w",), 0, 0), (("s", "w"), 1, 1), (("w",), 2, 2)]


def test_what_was_given_up_holds_nobody_back() -> None:
    stale = {"s": days(0, 0), "w": days(0, 0), "sum": days(0, 3)}
    moved = {("s", D), ("sum", D + DAY)}  # the others are stale only for what s would bring
    planned = plan(stale, READS, moved=moved, given_up={("s", D)})
    assert ranges(planned) == [(("sum",), 1, 1)]


def test_an_identity_changes_with_tables_dates_and_levels() -> None:
    one = Request(("s",), D, D)
    assert one.identity(lambda _table, _day: 1) == Request(("s",), D, D).identity(lambda _table, _day: 1)
    others = [
        one.identity(lambda _table, _day: 2),
        Request(("w",), D, D).identity(lambda _table, _day: 1),
        Request(("s",), D, D + DAY).identity(lambda _table, _day: 1),
    ]
    assert one.identity(lambda _table, _day: 1) not in others


outputs = st.sets(st.tuples(st.sampled_from(list(READS)), st.integers(0, 12).map(lambda n: D + DAY * n)), max_size=25)


@settings(max_examples=200, deadline=None)
@given(stale=outputs, busy=outputs, cap=st.integers(1, 5))
def test_looking_again_and_again_makes_everything_once_and_inputs_first(
    stale: set[Made], busy: set[Made], cap: int
) -> None:
    left, done = set(stale), set[Made]()
    for _look in range(60):
        listed = {table: sorted(day for name, day in left if name == table) for table in READS}
        planned = plan(listed, READS, in_progress=busy, max_dates=cap)
        asked = [(table, day) for request in planned.requests for table in request.tables for day in request.days]
        assert len(asked) == len(set(asked)) and not set(asked) & busy
        for table, day in asked:
            inputs = {(source, day - DAY * n) for source, back in READS[table].items() for n in range(back + 1)}
            own = next(r for r in planned.requests if table in r.tables and r.first <= day <= r.last)
            same_run = {(name, when) for name in own.tables for when in own.days}
            assert not inputs & left - same_run, "an input is still to be made, and not in the same run"
        left -= set(asked)
        done |= set(asked)
        busy = set()
        if not left:
            break
    assert done == stale
