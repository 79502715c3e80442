"""registry/first_readings and registry/devices: what can be told of a device that nobody declared."""

from __future__ import annotations

import random

import pytest

from iot_platform_tests.transforms.conftest import Make
from iot_platform_tests.transforms.rows import Row, at, bronze, device, silver


def arrivals(times: list[float], **given: object) -> list[Row]:
    return [bronze(event_time=at(t), kafka_offset=n, kafka_timestamp=at(n), **given) for n, t in enumerate(times)]


def first(run: Make, rows: list[Row], known: list[Row] | None = None) -> list[Row]:
    return run("registry/first_readings", day=None, bronze_readings=rows, registry_first_readings=known or [])


def devices(run: Make, rows: list[Row], declared: list[Row] | None = None) -> list[Row]:
    return run(
        "registry/devices", day=None, registry_first_readings=first(run, rows), declared_devices=declared or []
    )


def test_the_first_31_event_times_are_kept_in_order_of_arrival(run: Make) -> None:
    times = [float((n * 37) % 101) for n in range(101)]
    made = first(run, arrivals(times))
    assert [(row["arrival_rank"], row["event_time"]) for row in made] == [(n + 1, at(times[n])) for n in range(31)]
    assert {(row["first_event_time"], row["last_event_time"]) for row in made} == {(at(0), at(100))}


def test_metrics_and_repeats_of_one_time_are_one_event_time(run: Make) -> None:
    rows = [bronze(event_time=at(n // 4), metric=f"m{n % 2}", kafka_offset=n) for n in range(12)]
    assert [row["event_time"] for row in first(run, rows)] == [at(0), at(1), at(2)]


def test_in_parts_and_at_once_give_the_same(run: Make) -> None:
    chance = random.Random(7)
    rows = [
        bronze(
            device_id=f"d{chance.randrange(4)}", event_time=at(chance.randrange(60)), ingest_seq=1 + n // 25,
            kafka_timestamp=at(n), replayed=n < 40, contract=chance.choice(["sensor_reading", "device_event"]),
            site=chance.choice([None, "s1", "s2"]),
        )
        for n in range(200)
    ]  # fmt: skip
    known: list[Row] = []
    for seq in range(1, 9):
        known = first(run, [row for row in rows if row["ingest_seq"] == seq], known)
    at_once = first(run, rows)
    assert known == at_once
    assert max(row["arrival_rank"] for row in known) == 31
    assert first(run, [], known) == known


def test_cadence_is_the_median_gap_in_order_of_time(run: Make) -> None:
    (made,) = devices(run, arrivals([0, 20, 10, 100]))  # gaps 10, 10, 80
    assert (made["cadence_seconds"], made["installed_at"], made["source"]) == (10.0, at(0), "inferred")
    (made,) = devices(run, arrivals([0, 10, 40]))  # gaps 10, 30
    assert made["cadence_seconds"] == 20.0


def test_cadence_is_exact_to_the_microsecond_and_over_days(run: Make) -> None:
    (made,) = devices(run, arrivals([59.999999, 60.000001]))
    assert made["cadence_seconds"] == pytest.approx(2e-6, rel=1e-12)
    (made,) = devices(run, arrivals([0.25, 3 * 86_400 + 7261.125]))
    assert made["cadence_seconds"] == 3 * 86_400 + 7260.875


def test_cadence_is_frozen_after_thirty_gaps(run: Make) -> None:
    steady = [60.0 * n for n in range(31)]
    (made,) = devices(run, arrivals(steady + [10_000.0 + n for n in range(200)]))
    assert made["cadence_seconds"] == 60.0


def test_one_event_time_tells_no_cadence(run: Make) -> None:
    (made,) = devices(run, [bronze(event_time=at(3)), bronze(event_time=at(3), metric="humidity")])
    assert made["cadence_seconds"] is None


def test_a_device_known_only_from_a_replay_retires_at_its_last_reading(run: Make) -> None:
    (made,) = devices(run, arrivals([0, 10, 5_000], replayed=True))
    assert made["retired_at"] == at(5_000)
    (made,) = devices(run, [*arrivals([0, 10], replayed=True), bronze(event_time=at(99))])
    assert made["retired_at"] is None


def test_a_device_that_a_replay_declares_lives_as_its_readings_say(run: Make) -> None:
    declared = [device("d1", 10, installed_at=at(0), retired_at=at(0))]

    def made(rows: list[Row]) -> Row:
        (found,) = devices(run, rows, declared)
        assert (found["source"], found["installed_at"]) == ("declared", at(0))
        return found

    assert made([])["retired_at"] == at(0)  # nothing arrived yet: nothing is expected
    history = arrivals([0, 10, 5_000], replayed=True)
    assert made(history)["retired_at"] == at(5_000)
    live = made([*history, bronze(event_time=at(9_000))])
    assert live["retired_at"] is None
    health = run(
        "gold/sensor_health", registry_devices=[live],
        silver_readings=[silver(event_time=at(9_000 + 10 * n)) for n in range(30)],
    )  # fmt: skip
    assert len(health) == 288
    assert [row["window_start"] for row in health if not row["is_failing"]] == [at(9_000)]


def test_an_end_that_somebody_declared_stands_whatever_arrives(run: Make) -> None:
    for declared in (at(5), at(days=9), None):
        for replayed in (True, False):
            rows = arrivals([0, 10, 5_000], replayed=replayed)
            (made,) = devices(run, rows, [device("d1", installed_at=at(0), retired_at=declared)])
            assert made["retired_at"] == declared


def test_attributes_come_from_the_first_reading_that_has_them(run: Make) -> None:
    rows = [
        bronze(event_time=at(9), kafka_timestamp=at(1), contract="generic_reading"),
        bronze(event_time=at(8), kafka_timestamp=at(2), site="s1"),
        bronze(event_time=at(7), kafka_timestamp=at(3), site="s2", zone="z", firmware="1", state="on", device_type="k"),
    ]
    (made,) = devices(run, rows)
    names = ("contract", "site", "zone", "firmware", "state", "device_type")
    assert [made[name] for name in names] == ["generic_reading", "s1", "z", "1", "on", "k"]


def test_declared_wins_over_inferred_and_needs_no_reading(run: Make) -> None:
    declared = [device("d1", cadence_seconds=7), device("never seen", cadence_seconds=None, retired_at=at(5))]
    made = devices(run, [*arrivals([0, 60]), bronze(device_id="d9")], declared)
    assert [(row["device_id"], row["source"], row["cadence_seconds"], row["retired_at"]) for row in made] == [
        ("d1", "declared", 7.0, None), ("d9", "inferred", None, None), ("never seen", "declared", None, at(5)),
    ]  # fmt: skip
