"""gold/anomaly_events: an alert is a run of odd readings, not each of them."""

from __future__ import annotations

from typing import Any

from iot_platform_tests.transforms.conftest import Make
from iot_platform_tests.transforms.rows import Row, at, device, silver


def odd(seconds: float, z: float | None = 4.0, value: float = 50.0, **given: Any) -> Row:
    return silver(event_time=at(seconds), is_anomaly=True, z_score=z, value=value, recent_mean=20.0, **given)


def spans(rows: list[Row]) -> list[tuple[Any, Any, int]]:
    return [(row["started_at"], row["ended_at"], row["readings"]) for row in rows]


def test_readings_less_than_15_minutes_apart_are_one_event(run: Make) -> None:
    made = run("gold/anomaly_events", silver_readings=[odd(0), odd(899.999999), odd(1799.999999), odd(1800.5)])
    assert spans(made) == [(at(0), at(899.999999), 2), (at(1799.999999), at(1800.5), 2)]


def test_readings_15_minutes_apart_are_two(run: Make) -> None:
    made = run("gold/anomaly_events", silver_readings=[odd(0), odd(900)])
    assert spans(made) == [(at(0), at(0), 1), (at(900), at(900), 1)]


def test_a_slow_device_is_given_three_cadences(run: Make) -> None:
    rows = [odd(0), odd(3 * 3600 - 1), odd(6 * 3600 - 1)]
    made = run("gold/anomaly_events", silver_readings=rows, registry_devices=[device(cadence_seconds=3600)])
    assert spans(made) == [(at(0), at(3 * 3600 - 1), 2), (at(6 * 3600 - 1), at(6 * 3600 - 1), 1)]


def test_a_cadence_counts_on_the_dates_on_which_the_device_is_in_service(run: Make) -> None:
    def events(**registered: Any) -> int:
        registry = [device(cadence_seconds=3600, **registered)]
        return len(run("gold/anomaly_events", silver_readings=[odd(0), odd(3000)], registry_devices=registry))

    assert events(retired_at=at(-1e-6)) == 2 and events(retired_at=at(0)) == 1
    assert events(installed_at=at(days=1)) == 2 and events(installed_at=at(86_400 - 1e-6)) == 1


def test_a_fast_or_unknown_cadence_leaves_15_minutes(run: Make) -> None:
    for registry in ([], [device(cadence_seconds=None)], [device(cadence_seconds=1)]):
        made = run("gold/anomaly_events", silver_readings=[odd(0), odd(600)], registry_devices=registry)
        assert spans(made) == [(at(0), at(600), 2)]


def test_the_peak_is_the_largest_score_of_either_sign(run: Make) -> None:
    rows = [odd(0, 3.5, 30), odd(1, -9.0, -60), odd(2, None, 500), odd(3, 4.0, 31)]
    made = run("gold/anomaly_events", silver_readings=rows)
    assert [(row["peak_score"], row["peak_value"], row["readings"]) for row in made] == [(9.0, -60.0, 4)]


def test_after_a_past_without_spread_the_peak_is_the_farthest_value(run: Make) -> None:
    made = run("gold/anomaly_events", silver_readings=[odd(0, None, 30), odd(1, None, -60), odd(2, None, 31)])
    assert [(row["peak_score"], row["peak_value"]) for row in made] == [(None, -60.0)]


def test_equal_peaks_take_the_first(run: Make) -> None:
    made = run("gold/anomaly_events", silver_readings=[odd(1, 4.0, 70), odd(0, -4.0, -30)])
    assert made[0]["peak_value"] == -30.0


def test_usable_readings_between_do_not_part_a_run_and_do_not_count(run: Make) -> None:
    rows = [odd(0), *(silver(event_time=at(n)) for n in range(1, 60)), odd(60)]
    assert spans(run("gold/anomaly_events", silver_readings=rows)) == [(at(0), at(60), 2)]


def test_devices_and_metrics_have_events_of_their_own(run: Make) -> None:
    rows = [odd(0), odd(1, metric="humidity"), odd(2, device_id="d2")]
    made = run("gold/anomaly_events", silver_readings=rows)
    assert [(row["device_id"], row["metric"], row["detector"]) for row in made] == [
        ("d1", "humidity", "recent_z_score"), ("d1", "temperature", "recent_z_score"),
        ("d2", "temperature", "recent_z_score"),
    ]  # fmt: skip


def test_an_event_near_midnight_may_continue(run: Make) -> None:
    made = run("gold/anomaly_events", silver_readings=[odd(80_000), odd(86_400 - 899)])
    assert [row["continues"] for row in made] == [False, True]
    made = run("gold/anomaly_events", silver_readings=[odd(86_400 - 900)])
    assert [row["continues"] for row in made] == [False]
    made = run(
        "gold/anomaly_events", silver_readings=[odd(76_000)], registry_devices=[device(cadence_seconds=3600)]
    )
    assert [row["continues"] for row in made] == [True]
