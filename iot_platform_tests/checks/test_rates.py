"""A rate is judged by parts: what an override names by itself, the rest together; the worst is the result."""

from __future__ import annotations

from collections import Counter

import dagster as dg
from hypothesis import given
from hypothesis import strategies as st

from iot_platform.checks.catalog import date_checks
from iot_platform.checks.inspection import Part
from iot_platform.checks.rates import grouped, judge
from iot_platform.checks.thresholds import Bounds, Override, Threshold
from iot_platform_tests.assets.small_lake import DAY, NOW, D, SmallLake, at
from iot_platform_tests.checks.conftest import Inspect

LATE = next(check for check in date_checks() if check.name == "late_rate")
QUARANTINE = next(check for check in date_checks() if check.name == "quarantine_rate")


def land(small: SmallLake, site: str, late: int, of: int) -> None:
    small.seq = max(small.seq, int(NOW.timestamp() * 1_000_000))
    small.ingest(
        [{"event_time": at(D, 0) + DAY / of * n, "site": site, "device_id": site, "is_late": n < late} for n in range(of)]
    )


def test_a_site_with_bounds_of_its_own_does_not_hide_in_the_whole(small: SmallLake, inspect: Inspect) -> None:
    land(small, "hall", 0, 400)
    land(small, "cellar", 15, 30)
    assert LATE.evaluate(inspect(), D).passed  # 15 of 430
    strict = LATE.evaluate(inspect(late_rate={"overrides": [{"site": "cellar", "fail": 0.5}]}), D)
    assert not strict.passed and strict.severity == dg.AssetCheckSeverity.ERROR and strict.figure == 0.5
    assert strict.description == "50.00% of 30 rows of site cellar came late; the bound is 50.00%"
    assert "| site cellar | 30 | 15 | 0.5 |" in strict.metadata["parts"].value
    assert "hall" not in strict.metadata["offending"].value


def test_a_site_that_is_let_off_does_not_spoil_the_rest(small: SmallLake, inspect: Inspect) -> None:
    land(small, "hall", 0, 40)
    land(small, "cellar", 40, 40)
    assert not LATE.evaluate(inspect(), D).passed
    lenient = LATE.evaluate(inspect(late_rate={"overrides": [{"site": "cellar", "warn": None, "fail": None}]}), D)
    assert lenient.passed


def test_too_few_rows_are_not_judged(small: SmallLake, inspect: Inspect) -> None:
    land(small, "hall", 19, 19)
    outcome = LATE.evaluate(inspect(), D)
    assert outcome.passed and outcome.figure is None and outcome.description == "not judged: 19 rows, judged are 20 and more"
    assert not LATE.evaluate(inspect(late_rate={"min_rows": 0}), D).passed


def test_messages_count_on_the_date_of_their_arrival_whatever_their_event_date(small: SmallLake, inspect: Inspect) -> None:
    land(small, "hall", 0, 60)  # measured on D, arrived on NOW
    small.ingest([], [{}] * 20 + [{"redriven_at": NOW}] * 20)
    arrival = NOW.date()
    look = inspect((D, arrival))
    outcome = QUARANTINE.evaluate(look, arrival)
    assert outcome.figure == 0.25 and "| iot.sensor-readings | not_json |" in outcome.metadata["offending"].value
    assert QUARANTINE.evaluate(look, D).description == "not judged: no rows"
    known = inspect((arrival,), quarantine_rate={"overrides": [{"contract": "sensor_reading", "warn": 0.3, "fail": 0.9}]})
    assert QUARANTINE.evaluate(known, arrival).passed


def test_a_date_that_was_not_announced_is_looked_up_too(small: SmallLake, inspect: Inspect) -> None:
    land(small, "hall", 0, 60)
    look = inspect((D,))
    assert not look.arrived(D) and look.arrived(NOW.date()) == {"iot.sensor-readings": 60}


PARTS = st.builds(Part, st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from(["s", "t", None]))
SCOPES = st.fixed_dictionaries({}, optional={"contract": st.sampled_from("ab"), "site": st.sampled_from("st")})
BOUNDS = st.builds(Bounds, st.none() | st.floats(0, 1), st.none() | st.floats(0, 1))


@given(
    st.dictionaries(PARTS, st.tuples(st.integers(0, 50), st.integers(0, 50))),
    st.lists(st.builds(Override, SCOPES.filter(bool), BOUNDS), max_size=3),
    BOUNDS,
)
def test_every_row_is_judged_once_and_the_worst_part_decides(
    rows: dict[Part, tuple[int, int]], overrides: list[Override], bounds: Bounds
) -> None:
    total = Counter({part: good + bad for part, (good, bad) in rows.items()})
    hits = Counter({part: bad for part, (_, bad) in rows.items()})
    groups = grouped(total, hits, Threshold(bounds, tuple(overrides)), Part._fields)
    assert sum(group.rows for group in groups) == total.total() and sum(group.found for group in groups) == hits.total()
    outcome, worst = judge(groups, 0, "are wrong")
    judged = [group for group in groups if group.rows]
    assert outcome.passed == (not any(g.bounds.fails(g.share) or g.bounds.warns(g.share) for g in judged))
    assert (worst is None) == outcome.passed
    is_error = any(group.bounds.fails(group.share) for group in judged)
    assert outcome.passed or (outcome.severity == dg.AssetCheckSeverity.ERROR) == is_error
