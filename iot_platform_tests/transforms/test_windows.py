"""gold/sensor_windows, device_type_windows, location_hourly and daily_summary against values computed by hand."""

from __future__ import annotations

import math

import pytest

from iot_platform_tests.transforms.conftest import Make
from iot_platform_tests.transforms.rows import DAY, PROCESSED, at, event, rejected, silver


def test_a_sensor_window_holds_its_start_and_not_its_end(run: Make) -> None:
    rows = [silver(value=float(n), event_time=at(t)) for n, t in enumerate((0, 299.999999, 300, 86_399.999999))]
    made = run("gold/sensor_windows", silver_readings=rows)
    assert [(row["window_start"], row["readings"]) for row in made] == [(at(0), 2), (at(300), 1), (at(86_100), 1)]


def test_the_figures_of_a_sensor_window(run: Make) -> None:
    rows = [silver(value=float(n), event_time=at(n), is_anomaly=n > 98, site="s", zone="z") for n in range(101)]
    (made,) = run("gold/sensor_windows", silver_readings=rows)
    figures = {name: made[name] for name in ("readings", "avg", "min", "max", "sum", "p50", "p95", "p99", "anomalies")}
    assert figures == {
        "readings": 101, "avg": 50.0, "min": 0.0, "max": 100.0, "sum": 5050.0, "p50": 50.0, "p95": 95.0, "p99": 99.0,
        "anomalies": 2,
    }  # fmt: skip
    assert (made["first_event_time"], made["last_event_time"]) == (at(0), at(100))
    assert (made["site"], made["zone"], made["device_type"], made["event_date"]) == ("s", "z", None, DAY)
    assert (made["processed_at"], made["pipeline_version"]) == (PROCESSED, "test")


def test_percentiles_interpolate_linearly_and_keep_ties(run: Make) -> None:
    rows = [silver(value=value, event_time=at(n)) for n, value in enumerate((1.0, 1.0, 1.0, 3.0))]
    (made,) = run("gold/sensor_windows", silver_readings=rows)
    assert made["p50"] == 1.0
    assert made["p95"] == pytest.approx(1 + 2 * 0.85)  # position 0.95 x 3 = 2.85
    assert made["p99"] == pytest.approx(1 + 2 * 0.97)


def test_an_absurd_value_leaves_all_figures_finite(run: Make) -> None:
    rows = [silver(value=value, event_time=at(n)) for n, value in enumerate((1.7e308, 1.7e308, -1.7e308))]
    (made,) = run("gold/sensor_windows", silver_readings=rows)
    assert made["max"] == 1.7e308 and made["min"] == -1.7e308
    assert all(math.isfinite(made[name]) for name in ("avg", "sum", "p50", "p95", "p99"))


def test_device_type_windows_are_minutes_of_device_events_only(run: Make) -> None:
    rows = [
        event(10, event_time=at(0), value=1.0),
        event(30, event_time=at(59.9), value=3.0),
        event(5, event_time=at(60)),
        event(7, "light", event_time=at(1)),
        silver(event_time=at(2)),
    ]
    made = run("gold/device_type_windows", silver_readings=rows)
    assert [(row["device_type"], row["window_start"], row["events"]) for row in made] == [
        ("light", at(0), 1), ("motion", at(0), 2), ("motion", at(60), 1),
    ]  # fmt: skip
    names = ("avg_event_duration_ms", "min_event_duration_ms", "max_event_duration_ms", "avg_value")
    assert [made[1][name] for name in names] == [20.0, 10.0, 30.0, 2.0]


def test_a_site_counts_each_device_once_an_hour_and_weighs_readings(run: Make) -> None:
    rows = [
        silver(device_id="a", site="s", value=1.0, event_time=at(0)),
        silver(device_id="a", site="s", value=2.0, event_time=at(1), is_anomaly=True),
        silver(device_id="b", site="s", value=9.0, event_time=at(2)),
        silver(device_id="b", site="s", value=5.0, event_time=at(3600)),
        silver(device_id="b", site="s", value=5.0, event_time=at(3600), metric="humidity"),
        silver(device_id="c", value=7.0, event_time=at(4)),
    ]
    made = run("gold/location_hourly", silver_readings=rows)
    assert [
        (r["site"], r["metric"], r["hour"], r["sensors"], r["readings"], r["avg"], r["min"], r["max"], r["anomalies"])
        for r in made
    ] == [
        ("s", "humidity", at(3600), 1, 1, 5.0, 5.0, 5.0, 0),
        ("s", "temperature", at(0), 2, 3, 4.0, 1.0, 9.0, 1),
        ("s", "temperature", at(3600), 1, 1, 5.0, 5.0, 5.0, 0),
        ("unknown", "temperature", at(0), 1, 1, 7.0, 7.0, 7.0, 0),
    ]


def test_the_mean_of_seven_days_weighs_readings_and_not_days(run: Make) -> None:
    rows = [silver(value=100.0, event_time=at(n, days=-6)) for n in range(9)] + [silver(value=0.0, event_time=at(0))]
    (made,) = run("gold/daily_summary", silver_readings=rows)
    assert made["avg_7d"] == pytest.approx(90.0)
    assert (made["readings"], made["avg"], made["p50"], made["p95"], made["p99"]) == (1, 0.0, 0.0, 0.0, 0.0)


def test_the_daily_summary_counts_what_was_rejected_by_reason(run: Make) -> None:
    reasons = ["duplicate"] * 3 + ["null_value"] * 2 + ["not_finite"] + ["out_of_range"] * 4
    (made,) = run(
        "gold/daily_summary",
        silver_readings=[silver(is_anomaly=True), silver()],
        silver_rejected_readings=[rejected(reason) for reason in reasons],
    )
    counts = [made[name] for name in ("readings", "anomalies", "duplicates", "null_values", "not_finite", "out_of_range")]
    assert counts == [2, 1, 3, 2, 1, 4]


def test_a_device_with_nothing_usable_still_has_a_day(run: Make) -> None:
    (made,) = run(
        "gold/daily_summary",
        silver_readings=[silver(value=8.0, event_time=at(0, days=-1))],
        silver_rejected_readings=[rejected("null_value", value=None, site="s")],
    )
    assert (made["readings"], made["avg"], made["p95"], made["null_values"], made["anomalies"]) == (0, None, None, 1, 0)
    assert (made["avg_7d"], made["site"]) == (8.0, "s")


def test_a_day_before_alone_makes_no_summary(run: Make) -> None:
    assert run("gold/daily_summary", silver_readings=[silver(event_time=at(0, days=-1))]) == []


@pytest.mark.parametrize(
    "table", ["gold/sensor_windows", "gold/device_type_windows", "gold/location_hourly", "gold/daily_summary",
              "gold/duration_p95", "gold/anomaly_events", "gold/sensor_health"],
)  # fmt: skip
def test_an_empty_date_is_empty(run: Make, table: str) -> None:
    assert run(table) == []
