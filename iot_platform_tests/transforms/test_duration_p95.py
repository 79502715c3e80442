"""gold/duration_p95: the edges where a percentile of durations goes wrong."""

from __future__ import annotations

import pytest

from iot_platform_tests.transforms.conftest import Make
from iot_platform_tests.transforms.rows import at, bronze, event, silver


def test_499_events_are_too_few_and_500_are_enough(run: Make) -> None:
    assert run("gold/duration_p95", silver_readings=[event(n) for n in range(499)]) == []
    (made,) = run("gold/duration_p95", silver_readings=[event(n) for n in range(500)])
    assert (made["events"], made["excluded"], made["mean"]) == (500, 0, pytest.approx(249.5))
    assert made["std"] == pytest.approx(((500**2 - 1) / 12) ** 0.5)  # population, of 0 ... 499
    assert made["p95"] == pytest.approx(0.95 * 499)


def test_each_type_is_counted_for_itself(run: Make) -> None:
    rows = [event(1, "motion") for _ in range(499)] + [event(2, "light") for _ in range(500)]
    made = run("gold/duration_p95", silver_readings=rows)
    assert [(row["device_type"], row["p95"]) for row in made] == [("light", 2.0)]


@pytest.mark.parametrize("duration", [0.0, 0.1, 250.0, 1 / 3, 1e9 + 0.1])
def test_without_spread_nothing_is_left_out(run: Make, duration: float) -> None:
    (made,) = run("gold/duration_p95", silver_readings=[event(duration) for _ in range(777)])
    assert (made["events"], made["excluded"], made["std"], made["p95"]) == (777, 0, 0.0, duration)


def test_outliers_are_left_out_of_the_percentile_and_not_of_mean_and_std(run: Make) -> None:
    rows = [event(100.0) for _ in range(499)] + [event(10_000.0)]
    (made,) = run("gold/duration_p95", silver_readings=rows)
    mean = (499 * 100 + 10_000) / 500
    std = ((499 * (100 - mean) ** 2 + (10_000 - mean) ** 2) / 500) ** 0.5
    assert (made["events"], made["excluded"], made["p95"]) == (500, 1, 100.0)
    assert (made["mean"], made["std"]) == (pytest.approx(mean), pytest.approx(std))


def test_an_event_at_exactly_three_sigma_stays(run: Make) -> None:
    # 9 x 0 and 1 x 10: mean 1, population sigma 3, so that |10 - 1| = 3 sigma
    rows = [event(10.0 if n % 10 == 0 else 0.0) for n in range(500)]
    (made,) = run("gold/duration_p95", silver_readings=rows)
    assert (made["excluded"], made["p95"]) == (0, 10.0)


def test_ties_are_all_kept(run: Make) -> None:
    rows = [event(1.0) for _ in range(475)] + [event(2.0) for _ in range(25)]
    (made,) = run("gold/duration_p95", silver_readings=rows)
    # mean 1.05, sigma 0.218: 2 lies beyond 3 sigma, and then all 475 are equal
    assert (made["excluded"], made["p95"]) == (25, 1.0)
    rows = [event(1.0) for _ in range(400)] + [event(2.0) for _ in range(100)]
    (made,) = run("gold/duration_p95", silver_readings=rows)
    assert (made["excluded"], made["p95"]) == (0, 2.0)


def test_the_percentile_interpolates_between_its_neighbours(run: Make) -> None:
    rows = [event(0.0) for _ in range(475)] + [event(1.0) for _ in range(475)] + [event(2.0) for _ in range(51)]
    (made,) = run("gold/duration_p95", silver_readings=rows)
    assert made["p95"] == pytest.approx(2.0)  # position 950 of 0 ... 1000: the first 2
    (made,) = run("gold/duration_p95", silver_readings=rows[:-1])
    assert made["p95"] == pytest.approx(1.05)  # position 949.05: between the last 1 and the first 2


def test_re_sent_events_count_once(run: Make) -> None:
    sent = [
        bronze(contract="device_event", device_type="motion", metric="motion", event_id=f"e{n % 499}",
               event_duration_ms=1.0, event_time=at(n % 499), kafka_timestamp=at(n))
        for n in range(998)
    ]  # fmt: skip
    usable = run("silver/readings", bronze_readings=sent)
    assert len(usable) == 499
    assert run("gold/duration_p95", silver_readings=usable) == []


def test_midnight_parts_the_events(run: Make) -> None:
    sent = [
        bronze(contract="device_event", device_type="motion", metric="motion", event_duration_ms=1.0,
               event_time=at(n - 250 if n else -1e-6))
        for n in range(750)
    ]  # fmt: skip
    usable = run("silver/readings", bronze_readings=sent)
    (made,) = run("gold/duration_p95", silver_readings=usable)
    assert made["events"] == 500


def test_other_contracts_and_readings_without_duration_do_not_count(run: Make) -> None:
    rows = [event(1.0) for _ in range(499)]
    rows += [silver(device_type="motion", event_duration_ms=1.0), event(1.0) | {"event_duration_ms": None}]
    assert run("gold/duration_p95", silver_readings=rows) == []
