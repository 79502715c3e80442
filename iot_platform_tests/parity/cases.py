"""Generated inputs: small worlds of devices with what parts two engines: nulls, ties, duplicates, extremes, midnights.

A Hypothesis strategy draws the knobs of each world; the rows follow from the knobs alone. Worlds share no device, metric or
device type, so that many of them go through one execution.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from hypothesis import strategies as st

from iot_platform_tests.transforms.rows import Row, at, bounds, bronze, device

VALUES = ("constant", "ties", "waves", "high", "tiny", "extremes", "broken")


@dataclass(frozen=True)
class World:
    """The knobs. ``share_*`` are chances in percent."""

    seed: int
    values: str
    readings: int
    share_yesterday: int
    share_duplicate: int
    share_tied_time: int
    bounded: bool
    declared: bool
    cadence: float | None
    events: int


worlds = st.builds(
    World,
    seed=st.integers(0, 2**32),
    values=st.sampled_from(VALUES),
    readings=st.sampled_from([0, 1, 2, 31, 33, 60, 140, 230]),
    share_yesterday=st.sampled_from([0, 30, 60, 100]),
    share_duplicate=st.sampled_from([0, 5, 30]),
    share_tied_time=st.sampled_from([0, 10, 90]),
    bounded=st.booleans(),
    declared=st.booleans(),
    cadence=st.sampled_from([None, 0.7, 60.0, 420.0, 3600.0, 50_000.0, 100_000.0]),
    events=st.sampled_from([0, 0, 0, 0, 3, 499, 500, 520]),
)


def value(kind: str, chance: random.Random, n: int) -> float | None:
    """The ``n``-th value of a series of this kind."""
    match kind:
        case "constant":
            return 0.1 if chance.random() < 0.98 else 0.2
        case "ties":
            return float(chance.randrange(-2, 3))
        case "waves":
            return 20 + 5 * math.sin(n / 9) + chance.gauss(0, 0.2) + (40 if chance.random() < 0.02 else 0)
        case "high":
            return 1e6 + chance.gauss(0, 1)
        case "tiny":
            return chance.gauss(0, 1e-12)
        case "extremes":
            return chance.choice([1.7e308, 1e-308, 1e200, 5.0, 0.0, -0.0, 3e7]) * chance.choice([1, 1, 1, -1])
        case _:
            return chance.choice([None, math.nan, math.inf, -math.inf, 1e7, -60.0, 20.0, 21.0, 21.5])


def rows_of(number: int, world: World) -> tuple[list[Row], list[Row], list[Row]]:
    """A world's Bronze of the date and the day before, its declared devices, its metric bounds."""
    chance = random.Random(world.seed)
    names = [f"w{number}-d{n}" for n in range(1 + world.seed % 2)]
    metric = f"m{number}"
    readings: list[Row] = []
    for n in range(world.readings):
        day = -1 if chance.randrange(100) < world.share_yesterday else 0
        second = chance.choice([0.0, 86_399.999999, 86_400 * chance.random(), 900.0 * chance.randrange(96)])
        moment = at(second, days=day)
        if readings and chance.randrange(100) < world.share_tied_time:
            moment = chance.choice(readings)["event_time"]
        row = bronze(
            device_id=chance.choice(names), metric=metric, value=value(world.values, chance, n), event_time=moment,
            event_id=f"e{number}-{chance.randrange(10**9)}", kafka_offset=number * 10_000 + n, topic=f"t{number % 3}",
            kafka_timestamp=at(chance.randrange(9), days=1), site=chance.choice([None, f"site{number % 5}"]),
            ingest_seq=1 + n // 40, replayed=chance.random() < 0.5,
        )  # fmt: skip
        readings.append(row)
        if chance.randrange(100) < world.share_duplicate:
            again = row | {"kafka_offset": row["kafka_offset"] + 5_000, "kafka_timestamp": at(chance.randrange(9), days=1)}
            elsewhere = {"topic": chance.choice([row["topic"], "a", "z"]), "kafka_partition": chance.randrange(3)}
            readings.append(again | elsewhere | chance.choice([{}, {"value": 1.0}, {"value": None}]))
    kind = f"k{number}"
    for n in range(world.events):
        duration = chance.choice([chance.lognormvariate(4.5, 0.5), 100.0, 5_000.0 if chance.random() < 0.1 else 99.0])
        readings.append(
            bronze(
                contract="device_event", device_id=names[0], metric=kind, device_type=kind, event_duration_ms=duration,
                value=float(n % 7), event_time=at(chance.randrange(86_400)), event_id=f"v{number}-{n}",
                kafka_offset=number * 10_000 + 8_000 + n, topic="events", kafka_timestamp=at(5, days=1),
            )
        )  # fmt: skip
    registered = [
        device(name, world.cadence, zone="z", site="declared site", installed_at=began,
               retired_at=chance.choice([None, at(50_000), began]))
        for name in names
        for began in [at(chance.randrange(7_000))]
    ]  # fmt: skip
    return readings, registered if world.declared else [], [bounds(metric)] if world.bounded else []
