"""Plan rows as Kafka records: the JSON of each message by its contract's declaration, its key and headers.

Every message that is not malformed on purpose is read by the contract's own parser before it goes out; one that
ingestion would refuse is a defect here and stops the run.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isnan
from typing import Any

import orjson

from iot_platform.contracts.parse import ParseRules, Reading, Refusal, parse_value
from iot_platform.contracts.timestamps import render
from iot_platform.contracts.wire import Json, MetricFields, MetricMap, MetricNamed, WireContract, WireField
from iot_platform.errors import DataError
from iot_platform.simulator.faults import REASONS, broken, contract_header
from iot_platform.simulator.fleet import SimulatedDevice
from iot_platform.simulator.options import FleetOptions
from iot_platform.simulator.plan import Kind, Plan
from iot_platform.simulator.spool import Headers


@dataclass(frozen=True)
class Made:
    """One record, ready to send. ``readings``: what ingestion will make of it; none of a malformed one."""

    row: int
    key: bytes
    value: bytes
    headers: Headers
    readings: Sequence[Reading]
    reason: str = ""


class MessageMaker:
    """Makes the messages of one contract's devices."""

    def __init__(
        self, contract: WireContract, devices: Sequence[SimulatedDevice], options: FleetOptions, rules: ParseRules
    ) -> None:
        self.contract = contract
        self.devices = devices
        self.options = options
        self.rules = rules
        self._headers: Headers = [("contract", contract.name.encode()), ("contract_version", str(contract.version).encode())]
        self._fixed = [{field: _fixed(field, device) for field in contract.fields} for device in devices]

    def make(self, plan: Plan, rows: Iterable[int], arrival_us: int) -> Iterator[Made]:
        """The records of these rows, in order. ``arrival_us``: the time at which they will reach the broker, epoch µs."""
        for row in rows:
            device = self.devices[int(plan.device[row])]
            message = self._message(plan, row, device)
            if plan.kind[row] == Kind.MALFORMED:
                reason = REASONS[int(plan.detail[row])]
                value = broken(self.contract, message, reason, int(plan.time_us[row]) // 1000)
                headers = [("contract", contract_header(self.contract, reason)), self._headers[1]]
                yield Made(row, device.key, value, headers, (), reason)
            else:
                value = orjson.dumps(message)
                readings = parse_value(self.contract, value, arrival_us=arrival_us, rules=self.rules)
                if isinstance(readings, Refusal):
                    raise DataError(
                        f"the simulator made a {self.contract.name} that its contract refuses: {readings.detail}",
                        "Check the contract's declaration, or IOT_FIRST_DATE against the dates simulated",
                    )
                yield Made(row, device.key, value, self._headers, readings)

    def _message(self, plan: Plan, row: int, device: SimulatedDevice) -> dict[str, Any]:
        message: dict[str, Any] = {}
        time_us = int(plan.time_us[row])
        for field, constant in self._fixed[device.index].items():
            if field.json is Json.MEASUREMENTS:
                continue
            node = message
            for part in field.path[:-1]:
                node = node.setdefault(part, {})
            node[field.path[-1]] = self._varying(plan, row, device, field, time_us) if constant is None else constant
        self._measure(message, device, [None if isnan(value) else value for value in plan.values[row].tolist()])
        return message

    def _varying(self, plan: Plan, row: int, device: SimulatedDevice, field: WireField, time_us: int) -> Any:
        match field.column:
            case "event_id":
                return str(event_id(self.options.seed, device.device_id, time_us))
            case "event_time":
                # What nobody declared is what small devices send: they count in epoch milliseconds (µs if they must).
                if isinstance(self.contract.shape, MetricMap):
                    return time_us if time_us % 1000 else time_us // 1000
                return render(time_us)
            case "event_duration_ms":
                return float(plan.duration_ms[row])
            case "status":
                return _status(field, self.options.status_mix, float(plan.status[row]))
        return None

    def _measure(self, message: dict[str, Any], device: SimulatedDevice, values: list[float | None]) -> None:
        match self.contract.shape:
            case MetricNamed(value_field=field):
                message[field] = values[0]
            case MetricMap(field=field):
                message[field] = {metric.name: value for metric, value in zip(device.metrics, values, strict=False)}
            case MetricFields():
                message |= {
                    metric.field or metric.name: value for metric, value in zip(device.metrics, values, strict=False)
                }


def event_id(seed: int, device_id: str, time_us: int) -> uuid.UUID:
    """The identity of a device's event at a time: the same one whenever the same event is simulated."""
    digest = blake2b(f"{seed}/{device_id}/{time_us}".encode(), digest_size=16).digest()
    return uuid.UUID(bytes=digest, version=4)


def _fixed(field: WireField, device: SimulatedDevice) -> Any:
    """What a field always says for the device; None where each message says something else."""
    match field.column:
        case "device_id":
            return device.device_id
        case "site":
            return device.site
        case "zone":
            return device.zone
        case "firmware":
            return device.firmware
        case "state":
            return "active"
        case "unit":
            return device.metrics[0].unit
        case "metric":
            return device.metrics[0].name
        case "device_type":
            return device.device_type
        case "event_id" | "event_time" | "event_duration_ms" | "status":
            return None
    return _of_type(field)


def _of_type(field: WireField) -> Any:
    """A field that the simulator knows nothing of: a constant of its type."""
    if field.allowed:
        return field.allowed[0]
    return {Json.NUMBER: field.minimum or 0, Json.OBJECT: {"line": "7", "simulated": True}}.get(field.json, "simulated")


def _status(field: WireField, mix: Sequence[float], share: float) -> str:
    """One of the allowed texts: by the mix where it has as many shares, else in equal ones."""
    if not field.allowed:
        return "ok"
    shares = mix if len(mix) == len(field.allowed) else [1 / len(field.allowed)] * len(field.allowed)
    for text, part in zip(field.allowed, shares, strict=True):
        if share < part:
            return text
        share -= part
    return field.allowed[-1]
