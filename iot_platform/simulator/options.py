"""What can be chosen about a simulation. What belongs here: options with their defaults and their limits.

Options that change what is said (``FleetOptions``) are told apart from how much of it is sent, because the first decide
whether two runs are the same simulation.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta

from iot_platform.contracts.wire import CONTRACTS
from iot_platform.errors import InputError

LATE_AFTER_SECONDS = 600
MAX_LATENESS_DAYS = 6
DEMO_DAYS = 3


@dataclass(frozen=True)
class FleetOptions:
    """The fleet and what it does. Rates are shares of its regular messages; the same options say the same, byte for byte.

    ``late_rate`` and ``malformed_rate`` add messages, ``duplicate_rate`` sends some again, the others change regular ones.
    ``lateness_seconds``: how much older than its arrival a late reading is, shortest and longest.
    ``silent_devices`` and ``half_silent_devices`` count per contract: the last devices send nothing, those before them
    every other reading.
    """

    contracts: tuple[str, ...] = tuple(CONTRACTS)
    devices: int = 6
    cadence_seconds: float = 60.0
    seed: int = 7
    anomaly_rate: float = 0.02
    duplicate_rate: float = 0.02
    late_rate: float = 0.01
    lateness_seconds: tuple[float, float] = (900.0, 6 * 3600.0)
    malformed_rate: float = 0.005
    out_of_range_rate: float = 0.005
    null_rate: float = 0.005
    silent_devices: int = 1
    half_silent_devices: int = 1
    status_mix: tuple[float, float, float] = (0.80, 0.15, 0.05)

    def __post_init__(self) -> None:
        unknown = [name for name in self.contracts if name not in CONTRACTS]
        if unknown or not self.contracts:
            raise InputError(
                f"no contract {', '.join(unknown) or 'was named'}", f"There are {', '.join(CONTRACTS)}"
            )
        for rate in fields(self):
            if rate.name.endswith("_rate") and not 0 <= getattr(self, rate.name) <= 0.5:
                raise InputError(f"--{rate.name.replace('_', '-')} {getattr(self, rate.name)} is no share", "Give 0 to 0.5")
        if self.devices < 1:
            raise InputError(f"--devices {self.devices}: a fleet has at least one device", "Give 1 or more")
        if not 0.001 <= self.cadence_seconds <= 86_400:
            raise InputError(f"--cadence {self.cadence_seconds} is not between 0.001 and 86400 seconds", "Correct it")
        if self.silent_devices < 0 or self.half_silent_devices < 0 or self.silent_devices >= self.devices:
            raise InputError(
                f"{self.silent_devices} of {self.devices} devices would be silent", "At least one must send something"
            )
        if self.half_silent_devices + self.silent_devices > self.devices:
            raise InputError("more silent and half-silent devices than devices", "Give fewer of them")
        shortest, longest = self.lateness_seconds
        if not LATE_AFTER_SECONDS < shortest <= longest <= MAX_LATENESS_DAYS * 86_400:
            raise InputError(
                f"lateness {shortest:g} to {longest:g} s: late is more than {LATE_AFTER_SECONDS} s",
                f"Give a shortest above it and a longest of at most {MAX_LATENESS_DAYS} days",
            )
        if any(share < 0 for share in self.status_mix) or abs(sum(self.status_mix) - 1) > 1e-9:
            raise InputError(f"the status mix {self.status_mix} does not add up to 1", "Give three shares")

    @property
    def key(self) -> str:
        """Names what each contract's devices say: equal options, equal key, whatever other contracts there are."""
        said = {name: _as_floats(value) for name, value in asdict(self).items() if name != "contracts"}
        text = json.dumps(said, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def messages_per_second(self) -> float:
        """What the devices send by their cadence, all contracts together, without what the rates add."""
        speaking = self.devices - self.silent_devices - self.half_silent_devices / 2
        return len(self.contracts) * speaking / self.cadence_seconds


@dataclass(frozen=True)
class History:
    """Whole UTC dates up to ``until`` (zone-aware); the last one ends there and may be partial."""

    days: int
    until: datetime
    start: datetime | None = None

    def __post_init__(self) -> None:
        if self.until.tzinfo is None or (self.start and self.start.tzinfo is None):
            raise InputError("--until and --start need a time zone", "Write them like 2026-11-19T12:00:00Z")
        if self.days < 1:
            raise InputError(f"--days {self.days}: history has at least one day", "Give 1 or more")
        if self.first >= self.until:
            raise InputError(f"the history would end before it begins ({self.first:%Y-%m-%d})", "Correct --start or --until")

    @property
    def first(self) -> datetime:
        """Midnight of the first date."""
        if self.start:
            return midnight(self.start)
        return midnight(self.until - timedelta(microseconds=1)) - timedelta(days=self.days - 1)


@dataclass(frozen=True)
class Live:
    """As time goes by: so many messages a second, until one of the limits (None: until it is interrupted)."""

    rate: float
    max_events: int | None = None
    duration_seconds: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1_000_000:
            raise InputError(f"--rate {self.rate:g} is not a number of messages a second", "Give a number above 0")
        for name, limit in (("--max-events", self.max_events), ("--duration", self.duration_seconds)):
            if limit is not None and limit <= 0:
                raise InputError(f"{name} {limit:g} leaves nothing to send", "Give a number above 0")


@dataclass(frozen=True)
class SimulationOptions:
    """A fleet and how much of it to send; ``max_events`` ends a history early (the next run goes on from there)."""

    span: History | Live
    fleet: FleetOptions = field(default_factory=FleetOptions)
    max_events: int | None = None


def demo_options(now: datetime, days: int = DEMO_DAYS, fleet: FleetOptions | None = None) -> SimulationOptions:
    """The demo's history: ``days`` whole UTC dates up to last midnight, so that a second demo on that day adds nothing."""
    return SimulationOptions(History(days, midnight(now)), fleet or FleetOptions())


def _as_floats(value: object) -> object:
    """60 and 60.0 are the same option."""
    if isinstance(value, int | float):
        return float(value)
    return [_as_floats(part) for part in value] if isinstance(value, tuple | list) else value


def midnight(time: datetime) -> datetime:
    """The UTC midnight at or before a zone-aware time."""
    return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
