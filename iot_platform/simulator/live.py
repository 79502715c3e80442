"""Sends a fleet's present: paced messages whose event times are the moments at which they are due."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from iot_platform.contracts.parse import ParseRules
from iot_platform.contracts.wire import CONTRACTS
from iot_platform.errors import InputError
from iot_platform.simulator.fleet import SimulatedDevice
from iot_platform.simulator.history import microseconds
from iot_platform.simulator.messages import Made, MessageMaker
from iot_platform.simulator.options import FleetOptions, Live
from iot_platform.simulator.plan import MICROSECONDS, Plan, Window, plan_window
from iot_platform.simulator.producer import Delivered, MessageProducer
from iot_platform.simulator.spool import Outgoing
from iot_platform.simulator.truth import TruthBlock
from iot_platform.topics import Topic

CHUNK_SLOTS = 100
LONGEST_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class _Due:
    """A message with the epoch µs at which it is to be sent."""

    at_us: int
    contract: str
    plan: Plan
    made: Made


def live_cadence(fleet: FleetOptions, rate: float) -> float:
    """Seconds between two readings of a device, so that the whole fleet sends ``rate`` messages a second.

    Raises ``InputError`` when that is slower than the devices' declared cadence: all of them would look ill.
    """
    extra = 1 + fleet.duplicate_rate + fleet.late_rate + fleet.malformed_rate
    natural = fleet.messages_per_second * extra
    if rate < natural * (1 - 1e-9):
        raise InputError(
            f"--rate {rate:g} is less than {len(fleet.contracts)} x {fleet.devices} devices send every "
            f"{fleet.cadence_seconds:g} s ({natural:.2f} messages a second)",
            "Give fewer --devices, a longer --cadence or a higher --rate",
        )
    return fleet.cadence_seconds * natural / rate


@dataclass
class LiveSender:
    """Sends by the clock (seconds, monotonic) through one producer, whose ``on_delivered`` must be ``delivered``.

    It goes on while no broker takes messages: those are kept on disk. ``on_back`` is called when one takes them again.
    """

    fleet: FleetOptions
    devices: dict[str, list[SimulatedDevice]]
    topics: dict[str, Topic]
    run: str
    rules: ParseRules
    now: datetime
    clock: Callable[[], float]
    is_stopped: Callable[[], bool]
    on_sent: Callable[[int], None]
    on_back: Callable[[], None]
    blocks: dict[str, TruthBlock] = field(default_factory=dict)

    def send(self, producer: MessageProducer, live: Live) -> None:
        """Send until one of the limits is reached or somebody stops it."""
        started, start_us = self.clock(), microseconds(self.now)
        self.blocks = {name: TruthBlock(f"{name}/{self.run}", name) for name in self.fleet.contracts}
        for sent, due in enumerate(self._messages(start_us, live_cadence(self.fleet, live.rate))):
            after = (due.at_us - start_us) / MICROSECONDS
            if sent == live.max_events or (live.duration_seconds is not None and after >= live.duration_seconds):
                break
            while (ahead := after - (self.clock() - started)) > 0 and not self.is_stopped():
                producer.wait(min(ahead, LONGEST_WAIT_SECONDS))
            if self.is_stopped():
                break
            if producer.may_resend:
                self.on_back()
            tag = (due.contract, due.plan, due.made)
            topic = self.topics[due.contract].name
            producer.send(Outgoing(topic, due.made.key, due.made.value, due.made.headers, tag))
            self.on_sent(1)
        producer.flush()

    def delivered(self, where: Delivered) -> None:
        """Take an acknowledgement."""
        contract, plan, made = where.tag
        self.blocks[contract].add(plan, made, where)

    def _messages(self, start_us: int, cadence_seconds: float) -> Iterator[_Due]:
        makers = {
            name: MessageMaker(CONTRACTS[name], self.devices[name], self.fleet, self.rules) for name in self.fleet.contracts
        }
        chunk_us = round(CHUNK_SLOTS * cadence_seconds * MICROSECONDS)
        chunk = 0
        while True:
            begin_us = start_us + chunk * chunk_us
            window = Window(begin_us, begin_us + chunk_us, cadence_seconds, readings_before=chunk * CHUNK_SLOTS)
            parts = [self._contract_messages(makers[name], name, window) for name in self.fleet.contracts]
            yield from heapq.merge(*parts, key=lambda due: due.at_us)
            chunk += 1

    def _contract_messages(self, maker: MessageMaker, contract: str, window: Window) -> Iterator[_Due]:
        plan = plan_window(CONTRACTS[contract], self.devices[contract], self.fleet, window)
        for made in maker.make(plan, range(len(plan)), window.end_us):
            yield _Due(int(plan.arrival_us[made.row]), contract, plan, made)
