"""Sends a fleet's past, date by date, as if it had arrived in order; what was sent before is not sent again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from iot_platform.contracts.parse import ParseRules
from iot_platform.contracts.wire import CONTRACTS
from iot_platform.simulator.fleet import SimulatedDevice
from iot_platform.simulator.journal import HEADER, Journal, TopicReader
from iot_platform.simulator.messages import Made, MessageMaker
from iot_platform.simulator.options import FleetOptions, History
from iot_platform.simulator.plan import Kind, Plan, Window, plan_window
from iot_platform.simulator.producer import Delivered, MessageProducer
from iot_platform.simulator.spool import Outgoing
from iot_platform.simulator.truth import TruthBlock, TruthFile
from iot_platform.topics import Topic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DAY_US = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(time: datetime) -> int:
    """Epoch µs of a zone-aware time, exactly."""
    return (time - EPOCH) // timedelta(microseconds=1)


@dataclass
class _Open:
    """The window that is being sent."""

    plan: Plan
    block: TruthBlock


@dataclass
class HistorySender:
    """Sends a history through one producer, whose ``on_delivered`` must be this object's ``delivered``.

    ``budget``: how many messages it may send still (None: all).
    """

    fleet: FleetOptions
    devices: dict[str, list[SimulatedDevice]]
    topics: dict[str, Topic]
    partitions: dict[str, int]
    journal: Journal
    truth: TruthFile
    reader: TopicReader
    rules: ParseRules
    now: datetime
    is_stopped: Callable[[], bool]
    on_sent: Callable[[int], None]
    budget: int | None = None
    already_sent: int = 0
    complete: bool = True
    blocks: list[TruthBlock] = field(default_factory=list)
    _open: _Open | None = None

    def send(self, producer: MessageProducer, history: History) -> None:
        """Send every window that the journal does not know as sent; ends early when stopped or out of budget."""
        first_us, until_us = microseconds(history.first), microseconds(history.until)
        self.journal.begin(first_us)
        self._forget_lost_topics()
        for day_us in range(first_us, until_us, DAY_US):
            for contract in self.fleet.contracts:
                if not self.complete:
                    return
                self._send_window(producer, contract, day_us, min(day_us + DAY_US, until_us))

    def delivered(self, where: Delivered) -> None:
        """Take an acknowledgement; its tag is the message."""
        assert self._open is not None
        made: Made = where.tag
        self._open.block.add(self._open.plan, made, where)

    def _forget_lost_topics(self) -> None:
        for contract in self.fleet.contracts:
            topic = self.topics[contract].name
            if self.journal.forgets(contract, topic, self.reader.topic_id(topic)):
                self.truth.drop(f"{contract}/")

    def _send_window(self, producer: MessageProducer, contract: str, day_us: int, until_us: int) -> None:
        key = f"{contract}/{EPOCH + timedelta(microseconds=day_us):%Y-%m-%d}"
        state = self.journal.window(key)
        self.already_sent += state.messages
        until_us = max(until_us, state.open_until_us)
        if state.sent_until_us >= until_us:
            return
        topic = self.topics[contract].name
        plan = self._plan(contract, day_us)
        rows = self._rows(plan, state.sent_until_us, until_us)
        ends = self.reader.ends(topic, self.partitions[topic])
        # A stretch that is resumed keeps its name, so that its truth replaces what the interrupted run could tell.
        window = _Open(plan, TruthBlock(f"{key}/{max(state.sent_until_us, day_us)}", contract))
        resumed = state.open_until_us > 0
        found: dict[int, Delivered] = {}
        if resumed:
            begin = {int(partition): offset for partition, offset in state.from_offsets.items()}
            place = f"{self.fleet.key}/{key}"
            found = {there.tag: there for there in self.reader.simulated(topic, begin, ends, place)}
        self.journal.open(key, until_us, ends)
        self._send_rows(producer, window, rows, found, contract)
        self.truth.write(window.block, again=resumed)
        self.blocks.append(window.block)
        self.already_sent += len(found)
        if self.complete:
            self.journal.close(key, len(rows))

    def _plan(self, contract: str, day_us: int) -> Plan:
        # The µs after the ms tell fleets apart that have the same devices.
        window = Window(day_us, day_us + DAY_US, self.fleet.cadence_seconds, sub_ms=1 + int(self.fleet.key, 16) % 999)
        return plan_window(CONTRACTS[contract], self.devices[contract], self.fleet, window)

    def _rows(self, plan: Plan, from_us: int, until_us: int) -> NDArray[np.int64]:
        import numpy as np

        due = (plan.arrival_us >= from_us) & (plan.arrival_us < until_us)
        too_old = (plan.kind == Kind.LATE) & (plan.time_us < (self.journal.first_us or 0))
        return np.flatnonzero(due & ~too_old)

    def _send_rows(
        self, producer: MessageProducer, window: _Open, rows: NDArray[np.int64], found: dict[int, Delivered], contract: str
    ) -> None:  # fmt: skip
        topic = self.topics[contract].name
        place = f"{self.fleet.key}/{window.block.window.rpartition('/')[0]}"
        maker = MessageMaker(CONTRACTS[contract], self.devices[contract], self.fleet, self.rules)
        self._open = window
        for made in maker.make(window.plan, rows.tolist(), microseconds(self.now)):
            if made.row in found:
                window.block.add(window.plan, made, found[made.row])
                continue
            if self.budget == 0 or self.is_stopped() or producer.failed:
                self.complete = False
                break
            headers = [*made.headers, (HEADER, f"{place}/{made.row}".encode())]
            producer.send(Outgoing(topic, made.key, made.value, headers, tag=made))
            self.budget = None if self.budget is None else self.budget - 1
            self.on_sent(1)
        producer.flush()
        self.complete = self.complete and not producer.failed
