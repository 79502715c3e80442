"""What a drawn step has the fleet say: series of readings of any age, with duplicates, nulls and nonsense among them."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from iot_platform_tests.faults.late.landing import PARTITIONS
from iot_platform_tests.faults.late.messages import Log, Said

BEGIN = datetime(2026, 3, 10, 21, 40, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KINDS = ("steady", "waves", "spiked", "broken")
MINUTE = timedelta(minutes=1)
NAME_OF = {"sensor_reading": "sensor", "environment_reading": "room", "device_event": "event"}


@dataclass(frozen=True)
class Piece:
    """A series of one device: ``back``: how old its last reading is; ``step``: minutes between readings."""

    speaks: tuple[str, str]  # contract and metric
    device: int
    back: timedelta
    count: int
    step: int
    kind: str
    site: str | None


SPEAKS = [
    ("sensor_reading", "temperature"), ("sensor_reading", "co2"), ("environment_reading", "temperature"),
    ("device_event", "motion"), ("device_event", "light"),
]  # fmt: skip
BACK = [0, 9, 11, 200, 1_000, 1_440, 2_880, 8_640, 30_240]  # minutes; the last: three weeks
piece = st.builds(
    Piece,
    speaks=st.sampled_from(SPEAKS),
    device=st.integers(0, 2),
    back=st.sampled_from(BACK).map(lambda minutes: minutes * MINUTE),
    count=st.sampled_from([1, 1, 2, 9, 45]),
    step=st.sampled_from([1, 5, 15, 60]),
    kind=st.sampled_from(KINDS),
    site=st.sampled_from([None, "hall", "lab"]),
)
CROWD = Piece(("device_event", "motion"), 0, 30 * MINUTE, 505, 1, "waves", None)  # a day that is worth a percentile
pieces = st.lists(piece, min_size=1, max_size=4)


def value(kind: str, n: int, chance: random.Random) -> float | None:
    if kind == "steady":
        return 20.0
    if kind == "waves":
        return 20 + n % 7 / 3 + chance.random()
    if kind == "spiked":
        return 99.5 if chance.random() < 0.1 else 20 + chance.random()
    return chance.choice([None, -273.15, 20.5, 21.0, 1e6])


class Fleet:
    """Says the pieces into the log; its clock is the broker's, and only goes on."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.now = BEGIN
        self.events = 0
        self.said: list[Said] = []

    def say(self, drawn: list[Piece], chance: random.Random, wait: timedelta) -> None:
        """Send the pieces' messages in any order of devices and times, over the time ``wait``."""
        self.now += wait
        messages: list[Said | None] = [said for one in drawn for said in self._series(one, chance)]
        if chance.random() < 0.3:
            messages.append(None)
        if chance.random() < 0.7:
            chance.shuffle(messages)
        self.send(messages, chance)

    def repeat(self, share: float, chance: random.Random) -> None:
        """Send some of all messages ever sent once more; some with the same identity and another value."""
        again: list[Said | None] = []
        for said in self.said[-200:]:
            if chance.random() < share:
                other = tuple((metric, 25.0) for metric, _ in said.values)
                again.append(replace(said, values=other) if chance.random() < 0.3 else said)
        if chance.random() < 0.3 and self.said:
            again.append(self._on_another_date(chance))
        self.now += MINUTE
        self.send(again, chance)

    def _on_another_date(self, chance: random.Random) -> Said:
        """The same event under another date: of each date it is the first, since tables know dates one by one."""
        said = chance.choice(self.said)
        return replace(said, moment=said.moment - timedelta(days=1))

    def _series(self, one: Piece, chance: random.Random) -> list[Said]:
        contract, metric = one.speaks
        last = (self.now - one.back).replace(microsecond=chance.choice([0, 123_000, 456_789]))
        name = f"{NAME_OF[contract]}-{one.device}"
        made: list[Said] = []
        for n in reversed(range(one.count)):
            moment = last - one.step * n * MINUTE
            values = [(metric, value(one.kind, n, chance))]
            if contract == "environment_reading":
                values.append(("humidity", 50.0 + n % 3))
            if contract == "device_event":
                self.events += 1
                duration = 5_000.0 if chance.random() < 0.02 else chance.choice([80.0, 100.0, 120.0])
                made.append(Said(contract, name, moment, tuple(values), None, self.events, duration))
            else:
                made.append(Said(contract, name, moment, tuple(values), one.site))
        return made

    def send(self, messages: list[Said | None], chance: random.Random) -> None:
        for said in messages:
            arrived = (self.now - EPOCH) // timedelta(microseconds=1000) * 1000 + chance.choice([0, 0, 1_000, 5_000])
            contract = said.contract if said else "sensor_reading"
            own = ord(said.device[-1]) % PARTITIONS if said else 0
            partition = own if chance.random() < 0.9 else chance.randrange(PARTITIONS)
            self.log.append(said, contract, partition, arrived)
            if said:
                self.said.append(said)
