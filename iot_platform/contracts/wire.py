"""The wire contracts: the versioned shapes of the messages that devices send, and the metrics they carry.

What belongs here: declarations. A new device type or metric is one more ``Metric`` in a contract; a new field is one more
``WireField`` (naming a column that there is not yet adds it to ``bronze/readings``); a new message shape is one more
``WireContract`` in ``CONTRACTS`` and a topic in ``topics.yaml``. How a message is read by a declaration
stands in ``contracts/parse.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Json(StrEnum):
    """What a field may be on the wire."""

    STRING = "string"
    NUMBER = "number"
    UUID = "uuid"
    TIMESTAMP = "timestamp"
    MEASUREMENTS = "measurements"
    OBJECT = "object"


class Older(StrEnum):
    """What a field's column reads in rows that landed before the field was declared."""

    NULL = "null"
    EXTRAS = "extras"  # what the message said; an unknown field is kept there


@dataclass(frozen=True)
class WireField:
    """One field of a message.

    ``path``: where it stands in the message (``("metadata", "firmware")`` is nested). ``column``: the column of
    ``bronze/readings`` it lands in; empty for a measurement and for an object that only holds others. ``minimum``
    is a rule of the wire (a message below it is quarantined), not a physical bound.
    """

    path: tuple[str, ...]
    json: Json
    column: str
    description: str
    required: bool = False
    allowed: tuple[str, ...] = ()
    minimum: float | None = None
    unit: str = ""
    also: str = ""  # a second column that takes the same text
    older: Older = Older.NULL

    @property
    def name(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class Metric:
    """A measured quantity with its unit and physical bounds (both good values; None: no bound)."""

    name: str
    unit: str
    min_value: float | None = None
    max_value: float | None = None
    description: str = ""
    field: str = ""  # the message's field, where it is not called like the metric


@dataclass(frozen=True)
class MetricFields:
    """Each metric stands in a field of its own: one message gives up to that many readings."""


@dataclass(frozen=True)
class MetricNamed:
    """One reading a message: the metric's name stands in one field, its value in another."""

    name_field: str
    value_field: str


@dataclass(frozen=True)
class MetricMap:
    """A field holds an object of metric name to value: one reading an entry."""

    field: str


@dataclass(frozen=True)
class WireContract:
    """The shape of a message; ``version`` grows with every change that old readers could not take.

    A metric that is not among ``metrics`` is accepted too, without bounds; a check lists such. ``earlier``: versions that
    are still taken beside this one. The header ``contract_version`` tells them apart; a message without it is of the oldest,
    since its sender was made before there was a choice.
    """

    name: str
    version: int
    description: str
    fields: tuple[WireField, ...]
    metrics: tuple[Metric, ...]
    shape: MetricFields | MetricNamed | MetricMap
    earlier: tuple[WireContract, ...] = ()

    @property
    def versions(self) -> tuple[WireContract, ...]:
        """All versions that are taken, oldest first."""
        return tuple(sorted((*self.earlier, self), key=lambda contract: contract.version))

    def of_version(self, version: int) -> WireContract | None:
        return next((contract for contract in self.versions if contract.version == version), None)

    @property
    def has_event_id(self) -> bool:
        return any(field.column == "event_id" for field in self.fields)

    def metric(self, name: str) -> Metric | None:
        return next((metric for metric in self.metrics if metric.name == name), None)


def _sensor_id() -> WireField:
    return WireField(("sensor_id",), Json.STRING, "device_id", "the device; also the message's key", required=True)


def _timestamp() -> WireField:
    return WireField(
        ("timestamp",), Json.TIMESTAMP, "event_time", "time of measurement: ISO 8601 with zone, or epoch s, ms or µs",
        required=True,
    )


ENVIRONMENT_READING = WireContract(
    name="environment_reading",
    version=1,
    description="What a room or site sensor measured at one time: up to three readings a message.",
    fields=(
        _sensor_id(),
        _timestamp(),
        WireField(("location",), Json.STRING, "site", "where the device stands"),
        WireField(("state",), Json.STRING, "state", "operating state the device reports"),
        WireField(("device_type",), Json.STRING, "device_type", "kind of device"),
    ),
    metrics=(
        Metric("temperature", "°C", -50, 150, "air temperature"),
        Metric("humidity", "%", 0, 100, "relative humidity"),
        Metric("energy", "Wh", 0, 10_000, "energy used since the reading before", field="energy_consumption"),
    ),
    shape=MetricFields(),
)

SENSOR_READING = WireContract(
    name="sensor_reading",
    version=1,
    description="One reading of a single-purpose sensor.",
    fields=(
        _sensor_id(),
        WireField(("sensor_type",), Json.STRING, "metric", "what is measured: the metric's name", required=True),
        _timestamp(),
        WireField(("unit",), Json.STRING, "unit", "unit of the value, as the device says it"),
        WireField(("location",), Json.STRING, "site", "where the device stands"),
        WireField(("status",), Json.STRING, "status", "status the device reports"),
    ),
    metrics=(
        Metric("temperature", "°C", -50, 150),
        Metric("humidity", "%", 0, 100),
        Metric("pressure", "hPa", 300, 1_100),
        Metric("vibration", "mm/s", 0, 100),
    ),
    shape=MetricNamed("sensor_type", "value"),
)

DEVICE_EVENT = WireContract(
    name="device_event",
    version=1,
    description="An event that a device handled, with how long it took.",
    fields=(
        WireField(("event_id",), Json.UUID, "event_id", "identity of the event; a re-sent event has the same", True),
        WireField(("device_id",), Json.STRING, "device_id", "the device; also the message's key", required=True),
        WireField(
            ("device_type",), Json.STRING, "metric", "kind of device: also the metric's name", True, also="device_type"
        ),
        _timestamp(),
        WireField(
            ("event_duration",), Json.NUMBER, "event_duration_ms", "how long the event took", required=True,
            minimum=0, unit="ms",
        ),
        WireField(
            ("status",), Json.STRING, "status", "outcome", required=True, allowed=("normal", "warning", "critical")
        ),
        WireField(
            ("metadata", "location"), Json.STRING, "zone",
            "zone of the device, such as zone-A … zone-E; any text is taken, a site names its zones as it likes",
            required=True,
        ),
        WireField(("metadata", "firmware"), Json.STRING, "firmware", "firmware version of the device", required=True),
    ),
    metrics=(
        Metric("temperature", "°C"),
        Metric("pressure", "hPa"),
        Metric("humidity", "%"),
        Metric("motion", "count"),
        Metric("light", "lx"),
    ),
    shape=MetricNamed("device_type", "value"),
)

GENERIC_READING = WireContract(
    name="generic_reading",
    version=1,
    description="Readings of metrics that nobody declared yet: one reading an entry of `measurements`.",
    fields=(
        _sensor_id(),
        _timestamp(),
        WireField(("measurements",), Json.MEASUREMENTS, "", "metric name to number", required=True),
        WireField(("site",), Json.STRING, "site", "where the device stands"),
        WireField(("tags",), Json.OBJECT, "", "free labels; kept in extras"),
    ),
    metrics=(),
    shape=MetricMap("measurements"),
)

CONTRACTS: dict[str, WireContract] = {
    contract.name: contract for contract in (ENVIRONMENT_READING, SENSOR_READING, DEVICE_EVENT, GENERIC_READING)
}
