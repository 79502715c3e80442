"""The simulated devices: who they are, what they measure, how often they report. Derived from the wire contracts alone."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from iot_platform.contracts.wire import CONTRACTS, Metric, MetricNamed, WireContract
from iot_platform.simulator.declarations import DeclaredDevice
from iot_platform.simulator.options import FleetOptions
from iot_platform.simulator.signals import DeviceSignal, profile_for

SITES = ("plant-north", "plant-south", "warehouse")
ZONES = ("zone-A", "zone-B", "zone-C", "zone-D", "zone-E")
FIRMWARE = ("1.4.2", "1.5.0", "2.0.1")
# What a contract without declared metrics is made to carry: metrics that nobody declared.
UNDECLARED = (Metric("co2", "ppm"), Metric("noise_level", "dB"))


@dataclass(frozen=True)
class SimulatedDevice:
    """One device. ``every``: sends each n-th of its readings, 0 is silent."""

    device_id: str
    contract: WireContract
    index: int
    metrics: tuple[Metric, ...]
    signals: tuple[DeviceSignal, ...]
    every: int
    phase: float  # where in its cadence it reports, a share
    firmware: str

    @property
    def site(self) -> str:
        return SITES[self.index % len(SITES)]

    @property
    def zone(self) -> str:
        return ZONES[self.index % len(ZONES)]

    @property
    def device_type(self) -> str:
        """For a contract that names one metric a message, that metric; else the contract's own kind."""
        if isinstance(self.contract.shape, MetricNamed):
            return self.metrics[0].name
        return self.contract.name.split("_")[0]

    @cached_property
    def key(self) -> bytes:
        return self.device_id.encode()

    def declared(self, installed_at: datetime, cadence_seconds: float) -> DeclaredDevice:
        columns = {wire_field.column for wire_field in self.contract.fields} | {
            wire_field.also for wire_field in self.contract.fields
        }
        return DeclaredDevice(
            device_id=self.device_id,
            contract=self.contract.name,
            cadence_seconds=cadence_seconds,
            installed_at=installed_at,
            device_type=self.device_type,
            site=self.site if "site" in columns else "",
            zone=self.zone if "zone" in columns else "",
            state="active" if "state" in columns else "",
            firmware=self.firmware if "firmware" in columns else "",
        )


def build_fleet(options: FleetOptions) -> dict[str, list[SimulatedDevice]]:
    """The devices by contract; the same options make the same fleet."""
    indexes = range(options.devices)
    return {name: [_device(CONTRACTS[name], index, options) for index in indexes] for name in options.contracts}


def _device(contract: WireContract, index: int, options: FleetOptions) -> SimulatedDevice:
    import numpy as np

    rng = np.random.default_rng([options.seed, stable_number(contract.name), index])
    known = contract.metrics or UNDECLARED
    metrics = (known[index % len(known)],) if isinstance(contract.shape, MetricNamed) else known
    from_end = options.devices - 1 - index
    if from_end < options.silent_devices:
        every = 0
    else:
        every = 2 if from_end < options.silent_devices + options.half_silent_devices else 1
    return SimulatedDevice(
        device_id=f"{_prefix(contract.name)}-{index + 1:03d}",
        contract=contract,
        index=index,
        metrics=metrics,
        signals=tuple(DeviceSignal.draw(profile_for(metric), rng) for metric in metrics),
        every=every,
        phase=float(rng.uniform(0.20, 0.40)),
        firmware=str(rng.choice(FIRMWARE)),
    )


def _prefix(contract: str) -> str:
    """The contract's first word; its whole name where another contract begins with the same word."""
    word = contract.split("_", maxsplit=1)[0]
    shared = sum(name.split("_")[0] == word for name in CONTRACTS) > 1
    return contract.replace("_", "-") if shared else word


def stable_number(text: str) -> int:
    """The same number for the same text in every process (``hash`` is not)."""
    return zlib.crc32(text.encode())
