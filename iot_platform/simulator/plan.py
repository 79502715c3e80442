"""What a fleet says in one stretch of time, as columns: pure, vectorised, and the same for the same seed.

A plan row is one message to send, in the order of arrival. What is injected is planned here and told apart by ``Kind``, so
that the truth is known before anything is sent. Turning rows into bytes is ``messages``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from iot_platform.contracts.wire import WireContract
from iot_platform.errors import InputError
from iot_platform.simulator.faults import REASONS
from iot_platform.simulator.fleet import SimulatedDevice, stable_number
from iot_platform.simulator.options import LATE_AFTER_SECONDS, FleetOptions
from iot_platform.simulator.signals import SPIKE_SIGMAS, event_durations

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]
    Columns = list[NDArray]

# A score needs 30 readings before it; nulls and values out of range among them do not count.
UNSCORED_READINGS = 40
MAX_ROWS = 20_000_000
MICROSECONDS = 1_000_000
DUPLICATE_DELAY_SECONDS = (1.0, 60.0)


class Kind(IntEnum):
    """What was done to a message; at most one thing."""

    REGULAR = 0
    ANOMALY = 1
    DUPLICATE = 2
    LATE = 3
    OUT_OF_RANGE = 4
    NULL = 5
    MALFORMED = 6

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Window:
    """A stretch of arrival, ``start_us`` to ``end_us`` (epoch µs, end excluded).

    ``readings_before``: how many readings each device has sent before. ``sub_ms``: the µs after the ms that all event times
    have (None: any), so that two fleets with the same devices never mean the same reading.
    """

    start_us: int
    end_us: int
    cadence_seconds: float
    readings_before: int = 0
    sub_ms: int | None = None


@dataclass(frozen=True)
class Plan:
    """Columns of equal length, sorted by arrival. ``detail``: the metric's position, or the reason's of a malformed one."""

    device: NDArray[np.int64]
    arrival_us: NDArray[np.int64]
    time_us: NDArray[np.int64]
    kind: NDArray[np.int64]
    detail: NDArray[np.int64]
    values: NDArray[np.float64]  # one column a metric of the device; NaN is a null
    status: NDArray[np.float64]  # uniform; the message's maker reads the mix with it
    duration_ms: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.device)


def plan_window(
    contract: WireContract, devices: Sequence[SimulatedDevice], options: FleetOptions, window: Window
) -> Plan:
    """Everything the contract's devices send in the window; ``InputError`` when that is more than memory should hold."""
    import numpy as np

    slots = int((window.end_us - window.start_us) / (window.cadence_seconds * MICROSECONDS) + 1e-6)
    if slots * len(devices) > MAX_ROWS:
        raise InputError(
            f"{len(devices)} devices every {window.cadence_seconds:g} s are {slots * len(devices)} messages a day",
            "Give fewer devices or a longer cadence",
        )
    width = max(len(device.metrics) for device in devices)
    parts = [
        _DevicePlan(contract, device, options, window, slots, width=width).columns()
        for device in devices
        if device.every and slots
    ]
    if not parts:
        return _empty(width)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((columns[2], columns[0], columns[1]))  # by arrival, then device, then event time
    plan = Plan(*(column[order] for column in columns))
    _spread_reasons(plan, contract, options, window)
    return plan


def _empty(width: int) -> Plan:
    import numpy as np

    none = np.zeros(0, dtype=np.int64)
    return Plan(none, none, none, none, none, np.zeros((0, width)), np.zeros(0), np.zeros(0))


def _times(slot: NDArray[np.int64], share: NDArray[np.float64], window: Window) -> NDArray[np.int64]:
    """Event times: in each slot of the cadence at the given share of it."""
    import numpy as np

    offset = np.floor((slot + share) * window.cadence_seconds * MICROSECONDS).astype(np.int64)
    time = window.start_us + offset
    return time if window.sub_ms is None else time - time % 1000 + window.sub_ms


class _DevicePlan:
    """One device's part of a window: its columns in the order of ``Plan``, unsorted."""

    def __init__(
        self, contract: WireContract, device: SimulatedDevice, options: FleetOptions, window: Window, slots: int,
        *, width: int,
    ) -> None:  # fmt: skip
        import numpy as np

        self.device, self.options, self.window, self.width = device, options, window, width
        seconds, rest = divmod(window.start_us, MICROSECONDS)
        self.rng = np.random.default_rng([options.seed, stable_number(contract.name), device.index, seconds, rest])
        self.slot = np.arange(0, slots, device.every)
        self.bounded = [
            i for i, metric in enumerate(device.metrics) if metric.min_value is not None or metric.max_value is not None
        ]

    def columns(self) -> Columns:
        import numpy as np

        regular = self._regular()
        parts = [regular, self._repeated(regular), self._late(regular), self._malformed(regular)]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _share(self, count: int) -> NDArray[np.float64]:
        return self.rng.uniform(size=count)

    def _regular(self) -> Columns:
        count = len(self.slot)
        time = _times(self.slot, self.device.phase + self.rng.uniform(-0.04, 0.04, count), self.window)
        kind, detail = self._injected(count)
        return self._rows(time, time, kind, detail)

    def _rows(self, arrival: Whole, time: Whole, kind: Whole, detail: Whole) -> Columns:
        import numpy as np

        count = len(time)
        device = np.full(count, self.device.index)
        values = self._values(time, kind, detail)
        return [device, arrival, time, kind, detail, values, self._share(count), event_durations(self.rng, count)]

    def _injected(self, count: int) -> tuple[Whole, Whole]:
        """Which readings are spikes, nulls or out of range, and in which metric."""
        import numpy as np

        options = self.options
        kind = np.full(count, Kind.REGULAR, dtype=np.int64)
        kind[self._share(count) < options.null_rate] = Kind.NULL
        if self.bounded:
            kind[self._share(count) < options.out_of_range_rate] = Kind.OUT_OF_RANGE
        if options.anomaly_rate:
            # One in each run of 1/rate readings: spikes in a heap would hide each other.
            runs = int(count * options.anomaly_rate) + 1
            at = ((np.arange(runs) + self._share(runs)) / options.anomaly_rate).astype(np.int64)
            kind[at[(at < count) & (at + self.window.readings_before >= UNSCORED_READINGS)]] = Kind.ANOMALY
        detail = self.rng.integers(0, len(self.device.metrics), count)
        if self.bounded:
            wild = kind == Kind.OUT_OF_RANGE
            detail[wild] = np.asarray(self.bounded)[detail[wild] % len(self.bounded)]
        return kind, detail

    def _values(self, time: Whole, kind: Whole, detail: Whole) -> NDArray[np.float64]:
        import numpy as np

        count, rng = len(time), self.rng
        values = np.full((count, self.width), np.nan)
        for position, signal in enumerate(self.device.signals):
            column = signal.values(time / MICROSECONDS, rng.normal(size=count))
            sigmas = rng.uniform(*SPIKE_SIGMAS, count) * rng.choice((-1.0, 1.0), count)
            jump = signal.spike(sigmas, self.window.cadence_seconds * self.device.every)
            jump = np.where(signal.is_outside(column + jump), -jump, jump)
            here = detail == position
            column = signal.settle(np.where(here & (kind == Kind.ANOMALY), column + jump, column))
            if (wild := here & (kind == Kind.OUT_OF_RANGE)).any():
                column[wild] = signal.out_of_range(sigmas[wild] < 0)
            column[here & (kind == Kind.NULL)] = np.nan
            values[:, position] = column
        return values

    def _repeated(self, regular: Columns) -> Columns:
        """Regular messages that are sent a second time, a little later in the same window."""
        import numpy as np

        again = (regular[3] == Kind.REGULAR) & (self._share(len(regular[3])) < self.options.duplicate_rate)
        rows = [column[again] for column in regular]
        delay = (self.rng.uniform(*DUPLICATE_DELAY_SECONDS, len(rows[0])) * MICROSECONDS).astype(np.int64)
        rows[1] = np.minimum(rows[1] + delay, self.window.end_us - 1)
        rows[3] = np.full(len(rows[0]), Kind.DUPLICATE)
        return rows

    def _late(self, regular: Columns) -> Columns:
        """Further readings from long before, held back until now; only of devices whose own last reading shows them late."""
        import numpy as np

        options, window, slot = self.options, self.window, self.slot
        held = (self._share(len(slot)) < options.late_rate) & (self.device.every == 1) & (slot >= 1)
        arrival = regular[2][held] + 1
        cadence_us = window.cadence_seconds * MICROSECONDS
        shortest = max(options.lateness_seconds[0], LATE_AFTER_SECONDS + 4 * window.cadence_seconds)
        longest = max(options.lateness_seconds[1], shortest)
        lateness = self.rng.uniform(shortest, longest, len(arrival)) * MICROSECONDS
        then = np.floor(slot[held] - lateness / cadence_us).astype(np.int64)
        # Another share of the slot than regular readings have, and one of its own for each window crossed, so no two meet.
        crossed = np.ceil(np.maximum(-then * cadence_us, 0) / (window.end_us - window.start_us))
        share = 0.60 + 0.045 * np.minimum(crossed, 7) + 0.04 * self._share(len(arrival))
        time, first = np.unique(_times(then, share, window), return_index=True)
        nothing = np.zeros(len(time), dtype=np.int64)
        return self._rows(arrival[first], time, nothing + Kind.LATE, nothing)

    def _malformed(self, regular: Columns) -> Columns:
        """Further messages that no contract allows; each made from a reading of the device."""
        import numpy as np

        broken = self._share(len(self.slot)) < self.options.malformed_rate
        rows = [column[broken] for column in regular]
        time = _times(self.slot[broken], np.full(len(rows[0]), 0.5), self.window)
        rows[1], rows[2], rows[3] = time, time, np.full(len(rows[0]), Kind.MALFORMED)
        return rows


def _spread_reasons(plan: Plan, contract: WireContract, options: FleetOptions, window: Window) -> None:
    """Give the malformed rows their reasons, each in turn."""
    import numpy as np

    rng = np.random.default_rng([options.seed, stable_number(contract.name), window.start_us // MICROSECONDS])
    rows = np.flatnonzero(plan.kind == Kind.MALFORMED)
    turns = [rng.permutation(len(REASONS)) for _ in range(len(rows) // len(REASONS) + 1)]
    plan.detail[rows] = np.concatenate(turns)[: len(rows)]
