"""``simulate``: puts fleet, producer, journal and truth together. What a fleet says stands in ``plan`` and ``messages``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from iot_platform.contracts.parse import ParseRules
from iot_platform.errors import InputError, ServiceError
from iot_platform.local.process import locked
from iot_platform.settings import Settings
from iot_platform.simulator.declarations import declare_devices, iso
from iot_platform.simulator.fleet import SimulatedDevice, build_fleet
from iot_platform.simulator.history import HistorySender
from iot_platform.simulator.journal import Journal, TopicReader
from iot_platform.simulator.live import LiveSender, live_cadence
from iot_platform.simulator.options import FleetOptions, History, Live, SimulationOptions
from iot_platform.simulator.producer import DELIVERY_SECONDS, Cluster, MessageProducer, undelivered_error
from iot_platform.simulator.resend import resend
from iot_platform.simulator.truth import TruthBlock, TruthFile, load_truth
from iot_platform.topics import Topic, load_topics

Progress = Callable[[int, int | None], None]  # messages sent, about how many there will be


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation did. ``injected`` counts messages by kind; ``already_sent``: what an earlier run had delivered.

    ``resent``: what had found no broker, in this run or earlier ones, and was sent again (it stands in no truth file).
    ``complete``: False when it was stopped, or its ``max_events`` ended it, before all of the history was sent.
    """

    run: str
    truth: Path
    delivered: int
    already_sent: int
    messages: dict[str, int]
    injected: dict[str, int]
    complete: bool
    seconds: float
    resent: int = 0


@dataclass
class _Run:
    """What both ways to simulate need."""

    settings: Settings
    fleet: FleetOptions
    devices: dict[str, list[SimulatedDevice]]
    topics: dict[str, Topic]
    now: datetime
    clock: Callable[[], float]
    is_stopped: Callable[[], bool]
    on_progress: Progress
    total: int | None
    delivery_seconds: float
    sent: int = 0

    @property
    def rules(self) -> ParseRules:
        return ParseRules(first_date=self.settings.first_date)

    def on_sent(self, count: int) -> None:
        self.sent += count
        self.on_progress(self.sent, self.total)

    def check_broker(self) -> Cluster:
        """Fail before anything is done when the broker or a topic is missing."""
        with MessageProducer(self.settings, "check") as probe:
            return probe.cluster([topic.name for topic in self.topics.values()])


def simulate(
    settings: Settings,
    options: SimulationOptions,
    *,
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
    is_stopped: Callable[[], bool] = lambda: False,
    on_progress: Progress = lambda sent, total: None,
    delivery_seconds: float = DELIVERY_SECONDS,
) -> SimulationResult:
    """Send what the options say, register the fleet, and write the truth file.

    ``now``: the wall clock, zone-aware; a history may not end after it. ``clock``: monotonic seconds that pace a live run.
    Raises ``InputError`` for options that cannot be, ``ServiceError`` without a broker or topic, or when messages were
    not delivered.
    """
    fleet, span = options.fleet, options.span
    known = load_topics(settings)
    missing = [name for name in fleet.contracts if name not in known]
    if missing:
        raise InputError(f"{settings.topics_file} has no topic for {', '.join(missing)}", "Add it, or leave that out")
    run = _Run(
        settings, fleet, build_fleet(fleet), {name: known[name] for name in fleet.contracts}, now, clock, is_stopped,
        on_progress, _expected(options), delivery_seconds,
    )  # fmt: skip
    started = clock()
    if isinstance(span, History):
        return _history(run, span, options.max_events, started)
    return _live(run, span, started)


def _expected(options: SimulationOptions) -> int | None:
    """About how many messages a run will send, for a progress bar."""
    fleet, span = options.fleet, options.span
    if isinstance(span, Live):
        by_time = None if span.duration_seconds is None else round(span.rate * span.duration_seconds)
        return min((limit for limit in (span.max_events, by_time) if limit is not None), default=None)
    extra = 1 + fleet.duplicate_rate + fleet.late_rate + fleet.malformed_rate
    total = round(fleet.messages_per_second * extra * (span.until - span.first).total_seconds())
    return total if options.max_events is None else min(total, options.max_events)


def _history(run: _Run, history: History, max_events: int | None, started: float) -> SimulationResult:
    if history.until > run.now:
        raise InputError(f"--until {iso(history.until)} lies in the future", "History ends now at the latest")
    if history.first.date() < run.settings.first_date:
        raise InputError(
            f"the history begins on {history.first:%Y-%m-%d}, before the first partition ({run.settings.first_date})",
            "Give fewer --days, or set IOT_FIRST_DATE",
        )
    cluster = run.check_broker()
    journal = Journal(run.settings, run.fleet.key, cluster.cluster_id)
    with locked(journal.lock_path, seconds=2):
        journal = Journal(run.settings, run.fleet.key, cluster.cluster_id)
        truth = TruthFile(run.settings.home / "truth" / f"{journal.name}.jsonl")
        _declare(run, history.first)
        reader = TopicReader(run.settings, cluster.address)
        sender = HistorySender(
            run.fleet, run.devices, run.topics, cluster.partitions, journal, truth, reader, run.rules, run.now,
            run.is_stopped, run.on_sent, max_events,
        )  # fmt: skip
        try:
            producer = MessageProducer(
                run.settings, journal.name, on_delivered=sender.delivered, is_stopped=run.is_stopped,
                delivery_seconds=run.delivery_seconds,
            )  # fmt: skip
            if producer.spool:
                producer.spool.discard()  # the journal has its messages made again
            with producer:
                sender.send(producer, history)
        finally:
            reader.close()
    return _result(run, producer, truth, sender.blocks, started, already_sent=sender.already_sent, complete=sender.complete)


def _live(run: _Run, live: Live, started: float) -> SimulationResult:
    live_cadence(run.fleet, live.rate)
    run.check_broker()
    _declare(run, run.now)
    name = f"live-{run.fleet.key}-{run.now:%Y%m%dT%H%M%S%fZ}"
    truth = TruthFile(run.settings.home / "truth" / f"{name}.jsonl")
    resent = 0

    def send_again() -> None:
        nonlocal resent
        if producer.spool:
            producer.spool.close()
        try:
            again = resend(run.settings, is_stopped=run.is_stopped, delivery_seconds=run.delivery_seconds)
        except ServiceError:
            producer.resent(is_cut_off=True)
        else:
            resent += again.delivered
            producer.resent(is_cut_off=again.is_cut_off)

    sender = LiveSender(
        run.fleet, run.devices, run.topics, name, run.rules, run.now, run.clock, run.is_stopped, run.on_sent, send_again
    )
    producer = MessageProducer(
        run.settings, name, on_delivered=sender.delivered, is_stopped=run.is_stopped, delivery_seconds=run.delivery_seconds
    )
    try:
        send_again()
        with producer:
            sender.send(producer, live)
        if producer.may_resend:
            send_again()
    finally:
        for block in sender.blocks.values():
            truth.write(block)
    if producer.spool and not producer.spool.waiting:
        producer.failed = 0  # all of it arrived in the end
    return _result(run, producer, truth, sender.blocks.values(), started, already_sent=0, complete=True, resent=resent)


def _declare(run: _Run, installed_at: datetime) -> None:
    """The fleet enters the registry before it speaks, those included that never will."""
    cadence = run.fleet.cadence_seconds
    devices = (device.declared(installed_at, cadence) for group in run.devices.values() for device in group)
    declare_devices(run.settings, "simulator", devices)


def _result(
    run: _Run, producer: MessageProducer, truth: TruthFile, blocks: Iterable[TruthBlock], started: float, *,
    already_sent: int, complete: bool, resent: int = 0,
) -> SimulationResult:  # fmt: skip
    if producer.failed:
        raise undelivered_error(producer)
    injected: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    for block in blocks:
        injected.update(line.kind for line in block.lines)
        messages[block.contract] += block.delivered
    return SimulationResult(
        truth.path.stem, truth.path, producer.delivered, already_sent, dict(messages), dict(injected), complete,
        run.clock() - started, resent,
    )  # fmt: skip


__all__ = ["Progress", "SimulationResult", "load_truth", "simulate"]
