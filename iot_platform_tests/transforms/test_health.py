"""gold/sensor_health: devices that report, that half report, and that are silent."""

from __future__ import annotations

import math

import pytest

from iot_platform_tests.transforms.conftest import Make
from iot_platform_tests.transforms.rows import MIDNIGHT, Row, at, clocks, device, silver


def beats(every: float, *, first: float = 0, last: float = 86_400, **given: object) -> list[Row]:
    count = math.ceil((last - first) / every)
    return [silver(event_time=at(first + n * every), **given) for n in range(count)]


def test_a_silent_device_has_rows_with_zero_percent_also_when_nothing_arrived(run: Make) -> None:
    made = run("gold/sensor_health", registry_devices=[device(site="s")])
    assert len(made) == 288
    shares = {(row["expected"], row["actual"], row["health_pct"], row["is_failing"], row["site"]) for row in made}
    assert shares == {(5.0, 0, 0.0, True, "s")}
    assert [row["window_start"] for row in made][:2] == [at(0), at(300)] and made[-1]["window_start"] == at(86_100)


def test_a_device_that_reports_as_it_should_is_healthy_all_day(run: Make) -> None:
    made = run("gold/sensor_health", registry_devices=[device()], silver_readings=beats(60))
    assert {(row["actual"], row["health_pct"], row["is_failing"]) for row in made} == {(5, 100.0, False)}


def test_a_device_that_reports_half_fails(run: Make) -> None:
    made = run("gold/sensor_health", registry_devices=[device(cadence_seconds=30)], silver_readings=beats(60))
    assert {(row["expected"], row["health_pct"], row["is_failing"]) for row in made} == {(10.0, 50.0, True)}


def test_ninety_percent_is_not_failing(run: Make) -> None:
    rows = beats(30, last=270) + beats(30, first=300, last=540)
    made = run("gold/sensor_health", registry_devices=[device(cadence_seconds=30)], silver_readings=rows)
    assert [(row["health_pct"], row["is_failing"]) for row in made[:2]] == [(90.0, False), (80.0, True)]


def test_more_than_expected_is_a_hundred_percent(run: Make) -> None:
    made = run("gold/sensor_health", registry_devices=[device()], silver_readings=beats(10))
    assert {(row["actual"], row["health_pct"]) for row in made} == {(30, 100.0)}


def test_several_metrics_of_one_time_are_one_sign_of_life(run: Make) -> None:
    rows = [silver(event_time=at(7), metric=metric) for metric in ("temperature", "humidity", "energy")]
    made = run("gold/sensor_health", registry_devices=[device()], silver_readings=rows)
    assert made[0]["actual"] == 1


def test_an_unknown_device_has_no_rows(run: Make) -> None:
    assert run("gold/sensor_health", silver_readings=beats(60)) == []


def test_a_device_without_a_cadence_has_no_rows(run: Make) -> None:
    registry = [device(cadence_seconds=None), device("d2", cadence_seconds=0), device("d3", cadence_seconds=86_401)]
    assert run("gold/sensor_health", registry_devices=registry, silver_readings=beats(60)) == []


def test_only_windows_wholly_between_installation_and_retirement_count(run: Make) -> None:
    known = device(installed_at=at(301), retired_at=at(1499.9))
    made = run("gold/sensor_health", registry_devices=[known])
    assert [row["window_start"] for row in made] == [at(600), at(900)]
    exact = device(installed_at=at(300), retired_at=at(1500))
    made = run("gold/sensor_health", registry_devices=[exact])
    assert [row["window_start"] for row in made] == [at(300), at(600), at(900), at(1200)]


def test_a_retired_and_a_coming_device_have_no_rows(run: Make) -> None:
    registry = [device("gone", retired_at=at(0)), device("coming", installed_at=at(days=1))]
    assert run("gold/sensor_health", registry_devices=registry) == []


@pytest.mark.parametrize(
    ("cadence", "window"),
    [(1, 300), (300, 300), (300.5, 320), (420, 432), (3600, 3600), (3601, 4320), (43_201, 86_400), (86_400, 86_400)],
)
def test_a_window_is_the_smallest_divisor_of_a_day_that_the_cadence_fits_in(run: Make, cadence: float, window: int) -> None:
    made = run("gold/sensor_health", registry_devices=[device(cadence_seconds=cadence)])
    assert {(row["window_seconds"], row["expected"]) for row in made} == {(window, window / cadence)}
    assert len(made) == 86_400 // window


def test_a_slow_device_that_reports_is_healthy(run: Make) -> None:
    registry = [device("seven minutes", 420), device("hour", 3600)]
    rows = beats(420, device_id="seven minutes") + beats(3600, first=1800, device_id="hour")
    made = run("gold/sensor_health", registry_devices=registry, silver_readings=rows)
    hour = [row["health_pct"] for row in made if row["device_id"] == "hour"]
    assert hour == [100.0] * 24
    seven = [row for row in made if row["device_id"] == "seven minutes"]
    assert len(seven) == 200
    # 206 readings in 200 windows: none is empty, and one reading is 1.03 times what a window is due
    assert all(row["actual"] >= 1 and not row["is_failing"] for row in seven[:-1])


def test_only_windows_that_the_clock_has_passed_are_judged(run: Make) -> None:
    made = run("gold/sensor_health", registry_devices=[device()], as_of=clocks(at(899.999999)))
    assert [row["window_start"] for row in made] == [at(0), at(300)]
    made = run("gold/sensor_health", registry_devices=[device()], as_of=clocks(at(900)))
    assert len(made) == 3


def test_a_clock_beyond_the_date_judges_the_date_and_no_more(run: Make) -> None:
    made = run("gold/sensor_health", registry_devices=[device()], as_of=clocks(at(days=5)))
    assert len(made) == 288 and made[-1]["window_start"] == at(86_100)


def test_each_contract_has_a_clock_of_its_own(run: Make) -> None:
    registry = [device("slow", contract="device_event"), device("fast"), device("never", contract="generic_reading")]
    as_of = clocks(MIDNIGHT + (at(600) - at(0)), "sensor_reading")
    made = run("gold/sensor_health", registry_devices=registry, as_of=as_of)
    assert {row["device_id"] for row in made} == {"fast"}
