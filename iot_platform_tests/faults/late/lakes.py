"""A lake with a fleet, for tests that play one scene: what lands, what is made, what a recomputation gives."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from iot_platform.engines.materialize import DateResult, materialize_date
from iot_platform.engines.protocol import Engine
from iot_platform.engines.registry import sync_registry
from iot_platform.lake import Lake
from iot_platform.lake.levels import Levels
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.faults.late.compare import assert_recomputed
from iot_platform_tests.faults.late.fleet import MINUTE, SPEAKS, Fleet, Piece
from iot_platform_tests.faults.late.landing import LocalStream
from iot_platform_tests.faults.late.messages import Log, Said, Taken
from iot_platform_tests.faults.late.oracle import World
from iot_platform_tests.faults.places import Count, count


@dataclass
class Scene:
    """A lake, its stream and what is known of it."""

    lake: Lake
    engine: Engine
    fleet: Fleet = field(default_factory=lambda: Fleet(Log()))

    def __post_init__(self) -> None:
        self.stream = LocalStream(self.lake, self.fleet.log, lambda: self.fleet.now)
        self.world = World(taken=self.stream.taken)

    def history(self, days: int, seed: int = 1) -> None:
        """Land some days of every contract, hour by hour, up to the fleet's time."""
        for speaks in SPEAKS:
            drawn = [Piece(speaks, device, timedelta(0), 24 * days, 60, "spiked", "hall") for device in (0, 1)]
            self.fleet.say(drawn, random.Random(seed), MINUTE)
        self.stream.drain()

    def land(self, *moments: datetime, device: str = "sensor-0", value: float = 21.0) -> list[Taken]:
        """One batch with a temperature of the device at each of these times."""
        said = [Said("sensor_reading", device, moment, (("temperature", value),), "hall") for moment in moments]
        self.fleet.now += MINUTE
        self.fleet.send([*said], random.Random(1))
        return self.stream.drain()

    def make(self, table: str, day: date, *, levels: Levels | None = None) -> DateResult:
        return materialize_date(self.lake, self.engine, TRANSFORMS[table], day, now=self.fleet.now, levels=levels)

    def stale(self) -> dict[str, list[date]]:
        """What is asked for once the registries have seen what landed."""
        sync_registry(self.lake, self.engine, now=self.fleet.now)
        return {table: days for table, days in Levels(self.lake).stale().items() if days}

    def settle(self) -> int:
        """Make all that is asked for, once; how many dates that were. Nothing is asked for then."""
        wanted = [(table, day) for table, days in self.stale().items() for day in days]
        for table, day in wanted:
            assert not self.make(table, day).skipped, f"{table} {day} was asked for and is up to date"
        assert self.stale() == {}
        return len(wanted)

    def counted(self) -> Count:
        """Every message that was sent, looked for in the tables."""
        return count(self.lake, self.fleet.log.sent())

    def assert_recomputed(self, days: Iterable[date] = ()) -> None:
        assert_recomputed(self.lake, self.world, {*self.world.dates, *days})
