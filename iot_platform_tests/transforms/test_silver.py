"""silver/readings and silver/rejected_readings: what is usable, what is not and why, and how a reading is scored."""

from __future__ import annotations

import math
import statistics
from datetime import timedelta

import pytest

from iot_platform_tests.transforms.conftest import Make
from iot_platform_tests.transforms.rows import DAY, PROCESSED, Row, at, bounds, bronze, device


def series(values: list[float], *, start: float = 0, days: int = 0, **given: object) -> list[Row]:
    return [bronze(value=value, event_time=at(start + n, days=days), **given) for n, value in enumerate(values)]


def both(run: Make, rows: list[Row], **given: list[Row]) -> tuple[list[Row], list[Row]]:
    metrics = {"registry_metrics": given["registry_metrics"]} if "registry_metrics" in given else {}
    today = [row for row in rows if row["event_date"] == DAY]
    usable = run("silver/readings", bronze_readings=rows, **given)
    refused = run("silver/rejected_readings", bronze_readings=today, **metrics)
    assert len(usable) + len(refused) == len(today), "Bronze = Silver + rejected"
    return usable, refused


def test_first_arrival_wins_whatever_the_order_of_the_rows(run: Make) -> None:
    first = bronze(event_id="e", value=1.0, event_time=at(5), kafka_timestamp=at(10), kafka_offset=7)
    later = bronze(event_id="e", value=2.0, event_time=at(5), kafka_timestamp=at(11), kafka_offset=3)
    usable, refused = both(run, [later, first])
    assert [row["value"] for row in usable] == [1.0]
    assert [(row["value"], row["reason"]) for row in refused] == [(2.0, "duplicate")]


def test_the_time_of_arrival_comes_before_topic_partition_and_offset(run: Make) -> None:
    first = bronze(event_id="e", value=1.0, event_time=at(5), kafka_timestamp=at(10), topic="z", kafka_partition=9)
    later = bronze(event_id="e", value=2.0, event_time=at(5), kafka_timestamp=at(11), topic="a", kafka_offset=0)
    usable, _ = both(run, [first, later])
    assert [row["value"] for row in usable] == [1.0]


def test_equal_arrival_times_are_told_apart_by_topic_then_partition_then_offset(run: Make) -> None:
    same = {"event_id": "e", "event_time": at(5), "kafka_timestamp": at(10)}
    rows = [
        bronze(value=4.0, topic="b", kafka_partition=0, kafka_offset=1, **same),
        bronze(value=3.0, topic="a", kafka_partition=1, kafka_offset=1, **same),
        bronze(value=2.0, topic="a", kafka_partition=0, kafka_offset=9, **same),
        bronze(value=1.0, topic="a", kafka_partition=0, kafka_offset=8, **same),
    ]
    usable, refused = both(run, rows)
    assert [row["value"] for row in usable] == [1.0]
    assert {row["reason"] for row in refused} == {"duplicate"}


def test_a_topic_made_anew_repeats_offsets_and_confuses_nothing(run: Make) -> None:
    same = {"topic": "t", "kafka_partition": 0, "kafka_offset": 5}
    rows = [
        bronze(value=None, event_time=at(-9), **same),
        bronze(event_id="e", value=1.0, event_time=at(3), kafka_offset=4, topic="t"),
        bronze(event_id="e", value=2.0, event_time=at(3), kafka_timestamp=at(7), **same),
        bronze(event_id="f", value=3.0, event_time=at(4), kafka_timestamp=at(90), **same),
    ]
    usable, refused = both(run, rows)
    assert [(row["event_id"], row["value"]) for row in usable] == [("e", 1.0), ("f", 3.0)]
    assert [(row["value"], row["reason"]) for row in refused] == [(2.0, "duplicate")]


def test_one_event_may_carry_several_metrics(run: Make) -> None:
    rows = [bronze(event_id="e", metric=metric, kafka_offset=1) for metric in ("temperature", "humidity")]
    usable, refused = both(run, rows)
    assert len(usable) == 2 and not refused


def test_a_repeat_is_a_duplicate_even_when_the_first_was_refused(run: Make) -> None:
    first = bronze(event_id="e", value=None, event_time=at(5), kafka_timestamp=at(10))
    repeat = bronze(event_id="e", value=20.0, event_time=at(5), kafka_timestamp=at(11))
    usable, refused = both(run, [first, repeat])
    assert not usable
    assert sorted(row["reason"] for row in refused) == ["duplicate", "null_value"]


def test_the_same_event_on_another_date_is_no_duplicate(run: Make) -> None:
    rows = [bronze(event_id="e", event_time=at(-1)), bronze(event_id="e", event_time=at(1))]
    usable, _ = both(run, rows)
    assert len(usable) == 1


def test_reasons_are_judged_in_their_order_and_bounds_are_good_values(run: Make) -> None:
    values = [-50.0, 150.0, -50.001, 150.001, None, math.nan, math.inf, -math.inf]
    rows = [bronze(value=value, event_time=at(n)) for n, value in enumerate(values)]
    usable, refused = both(run, rows, registry_metrics=[bounds()])
    assert [row["value"] for row in usable] == [-50.0, 150.0]
    assert sorted(row["reason"] for row in refused) == ["not_finite"] * 3 + ["null_value"] + ["out_of_range"] * 2


def test_an_undeclared_metric_and_another_contract_have_no_bounds(run: Make) -> None:
    rows = [bronze(metric="co2", value=1e9), bronze(contract="generic_reading", value=1e9)]
    usable, refused = both(run, rows, registry_metrics=[bounds()])
    assert len(usable) == 2 and not refused


def test_one_open_bound_leaves_that_side_open(run: Make) -> None:
    rows = [bronze(value=1e12), bronze(value=-1.0)]
    usable, refused = both(run, rows, registry_metrics=[bounds(low=0, high=None)])
    assert [row["value"] for row in usable] == [1e12]
    assert [row["reason"] for row in refused] == ["out_of_range"]


def test_a_reading_below_thirty_predecessors_is_not_scored(run: Make) -> None:
    usable, _ = both(run, series([20.0 + n % 2 for n in range(30)] + [500.0]))
    assert [row["recent_count"] for row in usable] == list(range(31))
    assert all(row["z_score"] is None and not row["is_anomaly"] for row in usable[:30])
    assert usable[0]["recent_mean"] is None and usable[0]["recent_std"] is None
    assert usable[1]["recent_mean"] == 20.0 and usable[1]["recent_std"] is None
    last = usable[30]
    std = statistics.stdev([20.0 + n % 2 for n in range(30)])
    assert last["recent_mean"] == pytest.approx(20.5) and last["recent_std"] == pytest.approx(std)
    assert last["z_score"] == pytest.approx((500 - 20.5) / std) and last["is_anomaly"]


def test_the_past_is_the_last_hundred_usable_readings_in_order_of_time(run: Make) -> None:
    values = [1000.0] * 50 + [float(n % 7) for n in range(100)] + [3.5]
    rows = series(values)
    usable, _ = both(run, rows[::-1])
    assert usable[-1]["recent_count"] == 100
    assert usable[-1]["recent_mean"] == pytest.approx(statistics.mean(values[50:150]))
    assert usable[-1]["recent_std"] == pytest.approx(statistics.stdev(values[50:150]))


def test_refused_readings_are_no_past(run: Make) -> None:
    good = series([float(n % 3) for n in range(40)])
    bad = [bronze(value=9999.0, event_time=at(n + 0.5)) for n in range(40)]
    repeat = [row | {"value": 50.0, "kafka_offset": 10_000 + n, "kafka_timestamp": at(9999)} for n, row in enumerate(good)]
    usable, refused = both(run, good + bad + repeat, registry_metrics=[bounds()])
    assert usable[-1]["recent_count"] == 39
    assert usable[-1]["recent_mean"] == pytest.approx(statistics.mean(float(n % 3) for n in range(39)))
    assert len(refused) == 80


def test_the_past_crosses_midnight(run: Make) -> None:
    yesterday = series([10.0 + n % 2 for n in range(150)], start=86_000, days=-1)
    today = series([10.5])
    usable, _ = both(run, yesterday + today)
    assert len(usable) == 1 and usable[0]["recent_count"] == 100
    assert usable[0]["recent_mean"] == pytest.approx(10.5) and usable[0]["z_score"] == 0.0


def test_duplicates_and_refused_readings_of_yesterday_are_no_past_either(run: Make) -> None:
    good = series([10.0 + n % 2 for n in range(35)], start=80_000, days=-1)
    repeat = [row | {"value": 99.0, "kafka_offset": 20_000 + n, "kafka_timestamp": at(1)} for n, row in enumerate(good)]
    bad = [bronze(value=9999.0, event_time=at(85_000 + n, days=-1)) for n in range(200)]
    nulls = [bronze(value=None, event_time=at(86_000 + n / 10, days=-1)) for n in range(200)]
    usable, _ = both(run, good + repeat + bad + nulls + series([10.0]), registry_metrics=[bounds()])
    assert usable[0]["recent_count"] == 35
    assert usable[0]["recent_mean"] == pytest.approx(statistics.mean(10.0 + n % 2 for n in range(35)))


def test_devices_and_metrics_have_a_past_each_of_their_own(run: Make) -> None:
    rows = series([1.0] * 40) + series([5.0] * 40, metric="humidity") + series([9.0] * 40, device_id="d2")
    usable, _ = both(run, rows)
    assert all(row["recent_mean"] in (None, row["value"]) for row in usable)
    assert max(row["recent_count"] for row in usable) == 39


def test_equal_times_are_ordered_by_event_id(run: Make) -> None:
    rows = series([float(n % 5) for n in range(40)])
    tied = [bronze(event_id=f"z{n}", value=100.0 + n, event_time=at(50)) for n in (1, 0, 2)]
    usable, _ = both(run, rows + tied)
    counts = {row["event_id"]: row["recent_count"] for row in usable}
    assert (counts["z0"], counts["z1"], counts["z2"]) == (40, 41, 42)


def test_after_a_past_without_spread_a_different_value_is_an_anomaly_without_score(run: Make) -> None:
    usable, _ = both(run, series([0.1] * 60 + [0.2]))
    assert usable[-1]["is_anomaly"] and usable[-1]["z_score"] is None
    assert usable[-1]["recent_std"] == 0.0


def test_after_a_past_without_spread_an_equal_value_is_none(run: Make) -> None:
    usable, _ = both(run, series([0.1] * 60 + [0.1 + 1e-12]))
    assert not usable[-1]["is_anomaly"] and usable[-1]["z_score"] == 0.0


def test_a_spread_of_floating_point_noise_is_no_spread(run: Make) -> None:
    past = [1e6 + (n % 2) * 1e-4 for n in range(60)]  # std 5e-5 <= 1e-9 x 1e6
    usable, _ = both(run, series([*past, 1e6 + 1.0]))
    assert usable[-1]["is_anomaly"] and usable[-1]["z_score"] is None and usable[-1]["recent_std"] == 0.0


def test_z_is_exactly_zero_on_the_mean(run: Make) -> None:
    usable, _ = both(run, series([0.1, 0.3] * 50 + [0.2]))
    assert usable[-1]["z_score"] == 0.0 and usable[-1]["recent_std"] > 0.1


@pytest.mark.parametrize(("offset", "anomalous"), [(2.99, False), (3.01, True), (-2.99, False), (-3.01, True)])
def test_more_than_three_standard_deviations_are_an_anomaly(run: Make, offset: float, anomalous: bool) -> None:
    past = [10.0, 12.0] * 50
    usable, _ = both(run, series([*past, 11.0 + offset * statistics.stdev(past)]))
    assert usable[-1]["is_anomaly"] is anomalous
    assert usable[-1]["z_score"] == pytest.approx(offset)


def test_an_anomaly_is_kept_and_becomes_past(run: Make) -> None:
    usable, _ = both(run, series([1.0, 2.0] * 20 + [100.0, 1.5]))
    assert usable[-2]["is_anomaly"]
    assert usable[-1]["recent_mean"] == pytest.approx((60 + 100) / 41)


def test_absurd_values_stop_nothing(run: Make) -> None:
    values = [1.7e308, -1.7e308] * 20 + [5.0, 1.7e308]
    usable, _ = both(run, series(values, metric="anything"))
    assert [row["value"] for row in usable] == values
    assert all(math.isfinite(row["recent_mean"]) and math.isfinite(row["recent_std"]) for row in usable[2:])


def test_what_the_message_lacks_comes_from_the_declared_device(run: Make) -> None:
    known = device(site="s", zone="z", state="on", firmware="2", device_type="k")
    rows = [bronze(event_time=at(1)), bronze(event_time=at(2), site="own", unit="K")]
    usable, _ = both(run, rows, registry_devices=[known], registry_metrics=[bounds()])
    filled = [(r["site"], r["zone"], r["state"], r["firmware"], r["device_type"], r["unit"]) for r in usable]
    assert filled == [("s", "z", "on", "2", "k", "°C"), ("own", "z", "on", "2", "k", "K")]


def test_an_inferred_device_fills_nothing(run: Make) -> None:
    usable, _ = both(run, [bronze()], registry_devices=[device(site="s", source="inferred")])
    assert usable[0]["site"] is None


def test_only_the_date_asked_for_is_made_and_lineage_comes_from_the_run(run: Make) -> None:
    rows = [bronze(event_time=at(-1e-6)), bronze(event_time=at(0)), bronze(event_time=at(86_400 - 1e-6))]
    usable, _ = both(run, rows)
    assert [row["event_time"] for row in usable] == [at(0), at(1, days=1) - timedelta(seconds=1, microseconds=1)]
    lineage = {(row["processed_at"], row["pipeline_version"], row["event_date"]) for row in usable}
    assert lineage == {(PROCESSED, "test", DAY)}


def test_a_date_without_readings_is_empty(run: Make) -> None:
    assert both(run, []) == ([], [])
    assert both(run, series([1.0] * 50, days=-1)) == ([], [])
