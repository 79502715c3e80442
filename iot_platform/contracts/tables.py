"""The table contracts: every Delta table with its grain, columns, units, bounds and keys, declared once.

What belongs here: declarations. All times are UTC in microseconds. Arrow, Spark and Pandera schemas derive from these
(``contracts/arrow.py``, ``spark.py``, ``pandera.py``), and so do the descriptions that Dagster and the docs show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from iot_platform.contracts.promoted import TEXTS, promoted


class Kind(StrEnum):
    """The type of a column; each format has one mapping for it."""

    STRING = "string"
    DOUBLE = "double"
    BIGINT = "bigint"
    INT = "int"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    DATE = "date"
    BINARY = "binary"
    HEADERS = "headers"  # list<struct<key: string, value: binary>>
    CHANGES = "changes"  # list<struct<seq: bigint, from_date: date, to_date: date, declared: boolean>>


@dataclass(frozen=True)
class Column:
    """One column. ``minimum`` and ``maximum`` are included; they bind every row that is not null."""

    name: str
    kind: Kind
    description: str
    unit: str = ""
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableContract:
    """A Delta table: ``name`` is ``layer/table``; ``keys`` are unique within a partition."""

    name: str
    grain: str
    description: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    sort: tuple[str, ...] = ()
    partition: str | None = "event_date"

    @property
    def sentences(self) -> str:
        """What people read of it: first the grain, then what the table is for."""
        return f"{self.grain[0].upper()}{self.grain[1:]}. {self.description}"

    @property
    def layer(self) -> str:
        return self.name.split("/")[0]

    @property
    def view(self) -> str:
        """The name under which queries see it: ``silver_readings``."""
        return self.name.replace("/", "_")

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def _text(name: str, description: str, *, nullable: bool = False, allowed: tuple[str, ...] = ()) -> Column:
    return Column(name, Kind.STRING, description, nullable=nullable, allowed=allowed)


def _number(
    name: str, description: str, unit: str = "", *, nullable: bool = False,
    minimum: float | None = None, maximum: float | None = None,
) -> Column:  # fmt: skip
    return Column(name, Kind.DOUBLE, description, unit, nullable, minimum, maximum)


def _count(name: str, description: str) -> Column:
    return Column(name, Kind.BIGINT, description, minimum=0)


def _time(name: str, description: str, *, nullable: bool = False) -> Column:
    return Column(name, Kind.TIMESTAMP, description, nullable=nullable)


def _flag(name: str, description: str) -> Column:
    return Column(name, Kind.BOOLEAN, description)


EVENT_DATE = Column("event_date", Kind.DATE, "UTC date of the event time; the partition")
DEVICE_ID = _text("device_id", "the device")
METRIC = _text("metric", "the measured quantity")
LINEAGE = (
    _time("processed_at", "when the run that wrote the row began"),
    _text("pipeline_version", "version of the code that wrote the row"),
)
COORDINATES = (
    _text("topic", "Kafka topic"),
    Column("kafka_partition", Kind.INT, "Kafka partition", minimum=0),
    Column("kafka_offset", Kind.BIGINT, "Kafka offset", minimum=0),
    _time("kafka_timestamp", "arrival at the broker"),
)
ATTRIBUTES = (
    _text("device_type", "kind of device", nullable=True),
    _text("site", "where the device stands", nullable=True),
    _text("zone", "zone of the site", nullable=True),
)
FIGURES = (
    _number("avg", "mean of the values", "the metric's", nullable=True),
    _number("min", "smallest value", "the metric's", nullable=True),
    _number("max", "largest value", "the metric's", nullable=True),
)
PERCENTILES = tuple(
    _number(f"p{n}", f"exact {n}th percentile, linear interpolation", "the metric's", nullable=True)
    for n in (50, 95, 99)
)

READING = (
    _text("contract", "wire contract of the message"),
    Column("contract_version", Kind.INT, "its version", minimum=1),
    _text("event_id", "identity of the message's event; derived from its content where the contract has none"),
    DEVICE_ID,
    _text("device_type", "kind of device", nullable=True),
    METRIC,
    _number("value", "the measured value", "the metric's", nullable=True),
    _text("unit", "unit as the message says it, else as declared", nullable=True),
    _text("status", "status the device reported", nullable=True),
    _number("event_duration_ms", "how long the event took", "ms", nullable=True, minimum=0),
    _text("site", "where the device stands", nullable=True),
    _text("zone", "zone of the site", nullable=True),
    _text("state", "operating state", nullable=True),
    _text("firmware", "firmware version", nullable=True),
    _time("event_time", "time of measurement"),
)
ARRIVAL = (
    *COORDINATES,
    Column("ingest_seq", Kind.BIGINT, "growing number of the commit that brought the row; its level", "µs", minimum=1),
    _flag("is_late", "more than 10 minutes older than what its Kafka partition had already brought"),
    _flag("replayed", "the message came from a replay of history"),
    _text("source", "file of a replay", nullable=True),
)

_BRONZE = (
    *READING,
    _text("extras", "JSON of everything in the message that no column can give back", nullable=True),
    *ARRIVAL,
    _time("ingested_at", "when the batch, or the redrive, that wrote the row began"),
    Column("batch_id", Kind.BIGINT, "micro-batch of the stream", minimum=0),
    EVENT_DATE,
)
# Columns that wire contracts add by naming them stand last, as they do in a table that was there before them.
PROMOTED = tuple(
    Column(field.column, Kind.STRING if field.json in TEXTS else Kind.DOUBLE, field.description, field.unit, nullable=True)
    for field in promoted([column.name for column in _BRONZE])
)

REJECTIONS = ("duplicate", "null_value", "not_finite", "out_of_range")
QUARANTINE_REASONS = (
    "not_utf8", "not_json", "not_an_object", "too_large", "too_deep", "unknown_contract", "missing_field", "wrong_type",
    "not_finite", "bad_timestamp", "clock_out_of_range", "bad_device_id", "closed_date", "erased_device",
)  # fmt: skip

INCIDENT_KINDS = (
    "run_failure", "failed_check", "quarantine_rate", "late_rate", "stale_asset", "stuck_ingest", "lag",
)  # fmt: skip

BRONZE_READINGS = TableContract(
    "bronze/readings",
    "one row per (topic, kafka_partition, kafka_offset, metric)",
    "Every reading of every message that could be parsed, append only, lossless.",
    (*_BRONZE, *PROMOTED),
    keys=("topic", "kafka_partition", "kafka_offset", "metric"),
    sort=("device_id", "metric", "event_time"),
)

BRONZE_QUARANTINE = TableContract(
    "bronze/quarantine",
    "one row per (topic, kafka_partition, kafka_offset)",
    "Every message that cannot be a reading, whole, with the reason.",
    (
        *COORDINATES,
        Column("key", Kind.BINARY, "the message's key, raw", nullable=True),
        Column("value", Kind.BINARY, "the message's value, raw; null for a tombstone", nullable=True),
        Column("headers", Kind.HEADERS, "the message's headers, raw", nullable=True),
        _text("reason", "why it cannot be a reading", allowed=QUARANTINE_REASONS),
        _text("detail", "the reason in words, with the field"),
        Column("ingest_seq", Kind.BIGINT, "growing number of the commit that brought the row", "µs", minimum=1),
        Column("batch_id", Kind.BIGINT, "micro-batch of the stream", minimum=0),
        _time("quarantined_at", "when the batch that wrote the row began"),
        _time("redriven_at", "when it was parsed again and went to Bronze", nullable=True),
        Column("event_date", Kind.DATE, "UTC date of arrival (`kafka_timestamp`); the partition"),
    ),
    keys=("topic", "kafka_partition", "kafka_offset"),
    sort=("topic", "kafka_partition", "kafka_offset"),
)

SILVER_READINGS = TableContract(
    "silver/readings",
    "one row per (event_id, metric)",
    "Usable readings: first arrival of each, value present and within physical bounds, scored against the recent past.",
    (
        *(replace(column, nullable=False) if column.name == "value" else column for column in READING),
        *ARRIVAL,
        _number("recent_mean", "mean of the up to 100 usable readings before", "the metric's", nullable=True),
        _number("recent_std", "sample standard deviation of the same", "the metric's", nullable=True, minimum=0),
        Column("recent_count", Kind.BIGINT, "how many they were", minimum=0, maximum=100),
        _number("z_score", "(value - recent_mean) / recent_std; null below 30 readings or without spread", nullable=True),
        _flag("is_anomaly", "|z_score| > 3, or a different value after a past without spread"),
        *LINEAGE,
        EVENT_DATE,
    ),
    keys=("event_id", "metric"),
    sort=("device_id", "metric", "event_time"),
)

SILVER_REJECTED = TableContract(
    "silver/rejected_readings",
    "one row per rejected row of bronze/readings",
    "Well-formed readings that are not usable, each with one reason.",
    (
        *READING,
        *ARRIVAL,
        _text("reason", "judged in this order", allowed=REJECTIONS),
        *LINEAGE,
        EVENT_DATE,
    ),
    keys=("topic", "kafka_partition", "kafka_offset", "metric"),
    sort=("device_id", "metric", "event_time"),
)

SENSOR_WINDOWS = TableContract(
    "gold/sensor_windows",
    "one row per (device, metric, 5-minute window)",
    "Figures of the usable readings in tumbling windows of 5 minutes.",
    (
        DEVICE_ID, METRIC, _time("window_start", "start of the window"), *ATTRIBUTES,
        _count("readings", "usable readings"), *FIGURES,
        _number("sum", "sum of the values", "the metric's"), *PERCENTILES,
        _count("anomalies", "readings flagged as anomalies"),
        _time("first_event_time", "first reading"), _time("last_event_time", "last reading"),
        *LINEAGE, EVENT_DATE,
    ),
    keys=("device_id", "metric", "window_start"), sort=("device_id", "metric", "window_start"),
)  # fmt: skip

DEVICE_TYPE_WINDOWS = TableContract(
    "gold/device_type_windows",
    "one row per (device type, 1-minute window)",
    "Device events in tumbling windows of 1 minute.",
    (
        _text("device_type", "kind of device"), _time("window_start", "start of the window"),
        _count("events", "distinct events"),
        *(_number(f"{n}_event_duration_ms", f"{n} of the durations", "ms", minimum=0) for n in ("avg", "min", "max")),
        _number("avg_value", "mean of the values", "the type's"),
        *LINEAGE, EVENT_DATE,
    ),
    keys=("device_type", "window_start"), sort=("device_type", "window_start"),
)  # fmt: skip

LOCATION_HOURLY = TableContract(
    "gold/location_hourly",
    "one row per (site, metric, hour)",
    "Figures of a site by the hour; readings without a site stand under the site `unknown`.",
    (
        _text("site", "where the devices stand"), METRIC, _time("hour", "start of the hour"),
        _count("sensors", "distinct devices"), _count("readings", "usable readings"), *FIGURES,
        _count("anomalies", "readings flagged as anomalies"), *LINEAGE, EVENT_DATE,
    ),
    keys=("site", "metric", "hour"), sort=("site", "metric", "hour"),
)  # fmt: skip

DAILY_SUMMARY = TableContract(
    "gold/daily_summary",
    "one row per (device, metric)",
    "A device's day, with what was rejected and the reading-weighted mean of seven days.",
    (
        DEVICE_ID, METRIC, *ATTRIBUTES, _count("readings", "usable readings"), *FIGURES, *PERCENTILES,
        _count("anomalies", "readings flagged as anomalies"),
        _count("duplicates", "rejected as duplicate"), _count("null_values", "rejected as null_value"),
        _count("not_finite", "rejected as not_finite"), _count("out_of_range", "rejected as out_of_range"),
        _number("avg_7d", "mean over the usable readings of D-6 … D", "the metric's", nullable=True),
        *LINEAGE, EVENT_DATE,
    ),
    keys=("device_id", "metric"), sort=("device_id", "metric"),
)  # fmt: skip

SENSOR_HEALTH = TableContract(
    "gold/sensor_health",
    "one row per (device, window)",
    "Share of the expected readings that came; a registered device that is silent has rows with 0 %.",
    (
        DEVICE_ID, _time("window_start", "start of the window"),
        Column("window_seconds", Kind.INT, "length of the window: 300, or more for slow devices", "s", minimum=300),
        _text("contract", "wire contract of the device"), *ATTRIBUTES,
        _number("expected", "window / cadence", "readings", minimum=0),
        _count("actual", "distinct event times"),
        _number("health_pct", "min(100, 100 x actual / expected)", "%", minimum=0, maximum=100),
        _flag("is_failing", "health_pct below 90"), *LINEAGE, EVENT_DATE,
    ),
    keys=("device_id", "window_start"), sort=("device_id", "window_start"),
)  # fmt: skip

DURATION_P95 = TableContract(
    "gold/duration_p95",
    "one row per device type with at least 500 events that day",
    "95th percentile of event durations after 3-sigma outliers are left out; over events, never over averages.",
    (
        _text("device_type", "kind of device"), _count("events", "distinct events of the day"),
        _count("excluded", "events further than 3 sigma from the mean"),
        _number("mean", "mean duration of all events", "ms", minimum=0),
        _number("std", "population standard deviation of all events", "ms", minimum=0),
        _number("p95", "exact, linear interpolation, of the rest", "ms", minimum=0), *LINEAGE, EVENT_DATE,
    ),
    keys=("device_type",), sort=("device_type",),
)  # fmt: skip

ANOMALY_EVENTS = TableContract(
    "gold/anomaly_events",
    "one row per run of anomalous readings of a device and metric, cut at UTC midnight",
    "Anomalies for people: runs less than 15 minutes (or 3 cadences) apart are one event.",
    (
        DEVICE_ID, METRIC, _text("detector", "what flagged it"),
        _time("started_at", "first anomalous reading"), _time("ended_at", "last anomalous reading"),
        _count("readings", "anomalous readings in it"),
        _number("peak_score", "largest |z_score|; null where the past had no spread", nullable=True),
        _number("peak_value", "value at the peak", "the metric's"),
        _flag("continues", "a reading of the next date may go on with it, whether or not one came: less than the merge gap "
              "(15 minutes or 3 cadences) lies between its last reading and midnight"), *LINEAGE, EVENT_DATE,
    ),
    keys=("device_id", "metric", "detector", "started_at"), sort=("device_id", "metric", "started_at"),
)  # fmt: skip

CHANGES = Column("changes", Kind.CHANGES, "the changes of this row, and the dates that each bears on")

REGISTRY_DEVICES = TableContract(
    "registry/devices",
    "one row per device",
    "Known devices and how often each reports; declared by CSV, or inferred from its first readings.",
    (
        DEVICE_ID, _text("contract", "wire contract it sends"), *ATTRIBUTES,
        _text("state", "operating state", nullable=True), _text("firmware", "firmware version", nullable=True),
        _number("cadence_seconds", "seconds between readings; null until it can be told", "s", nullable=True),
        _time("installed_at", "reports from then on"), _time("retired_at", "reports until then", nullable=True),
        _text("source", "how it is known", allowed=("declared", "inferred")),
        CHANGES,
    ),
    keys=("device_id",), sort=("device_id",), partition=None,
)  # fmt: skip

REGISTRY_METRICS = TableContract(
    "registry/metrics",
    "one row per (contract, metric)",
    "Units and physical bounds: those declared with the contract, and those that a replay mapping added.",
    (
        _text("contract", "wire contract"), METRIC, _text("unit", "unit of the values"),
        _number("min_value", "smallest possible value", "the metric's", nullable=True),
        _number("max_value", "largest possible value", "the metric's", nullable=True),
        _text("source", "`contract`, or the mapping file that added it"),
        CHANGES,
    ),
    keys=("contract", "metric"), sort=("contract", "metric"), partition=None,
)  # fmt: skip

FIRST_READINGS = TableContract(
    "registry/first_readings",
    "one row per device and each of its first 31 distinct event times in order of arrival",
    "What the cadence of a device that nobody declared is inferred from: 30 gaps, then frozen.",
    (
        DEVICE_ID, _text("contract", "wire contract of its first reading"), *ATTRIBUTES,
        _text("state", "operating state", nullable=True), _text("firmware", "firmware version", nullable=True),
        _time("event_time", "one of its first event times"),
        Column("arrival_rank", Kind.BIGINT, "1 = the first that arrived", minimum=1, maximum=31),
        _time("first_event_time", "earliest event time seen of the device"),
        _time("last_event_time", "latest event time seen of the device"),
        _flag("only_replayed", "every reading seen came from a replay"),
    ),
    keys=("device_id", "event_time"), sort=("device_id", "arrival_rank"), partition=None,
)  # fmt: skip

CHECK_RESULTS = TableContract(
    "ops/check_results",
    "one row per evaluation of a check",
    "The history of all checks, dbt tests among them: what each found on which date, its figure and the bounds of then.",
    (
        _text("evaluation_id", "the run, and the number of the evaluation in Dagster's event log"),
        Column("event_id", Kind.BIGINT, "that number; it grows with time within one event log", minimum=0),
        _time("evaluated_at", "when the check was evaluated"),
        _text("run_id", "Dagster's run; null for an evaluation outside of runs", nullable=True),
        _text("asset", "what was checked, e.g. `silver/readings`"),
        _text("check_name", "the check, or the dbt test"),
        Column("event_date", Kind.DATE, "UTC date that was checked; null: the whole table", nullable=True),
        _flag("passed", "whether nothing was wrong"),
        _text("severity", "how bad a failure is: only ERROR says that data is wrong", allowed=("WARN", "ERROR")),
        _flag("is_blocking", "whether a failure stops what reads the table"),
        _number("figure", "what was measured: a share, rows, times; null where a check has no figure", nullable=True),
        _text("unit", "unit of figure and bounds: share, rows, times, devices, …", nullable=True),
        _number("warn_at", "figure from which the check warns; null: never", "the figure's", nullable=True),
        _number("fail_at", "figure from which the check fails; null: never", "the figure's", nullable=True),
        _text("description", "what was wrong, in words", nullable=True),
    ),
    keys=("evaluation_id",), sort=("event_id",), partition=None,
)  # fmt: skip

INCIDENTS = TableContract(
    "ops/incidents",
    "one row per incident",
    "What went wrong with the platform or its data, from when until when, and who was told. Kept by the alerts sensor.",
    (
        _text("incident_id", "kind, subject and the moment it opened, as a digest"),
        _text("kind", "what sort of thing went wrong", allowed=INCIDENT_KINDS),
        _text("subject", "what it is about: a table, a check, a topic, ..., with its date where it has one"),
        Column("event_date", Kind.DATE, "UTC date that it is about; null: none", nullable=True),
        _text("severity", "how bad", allowed=("WARN", "ERROR")),
        _text("summary", "what is wrong, in one line"),
        _text("todo", "what to do about it"),
        _text("run_id", "Dagster's run that showed it", nullable=True),
        _time("opened_at", "since when it is known"),
        _time("cleared_at", "since when it is not seen any more", nullable=True),
        _time("recovered_at", "when it was taken for over; null: open", nullable=True),
        _text("ending", "how it ended", nullable=True, allowed=("recovered", "expired")),
        _count("relapses", "how often it came back before it was taken for over"),
        _time("notified_at", "first message about it that was delivered", nullable=True),
        _time("recovery_notified_at", "first message about its end that was delivered", nullable=True),
        _text("deliveries", "JSON by channel: when its messages were delivered, and the last error"),
    ),
    keys=("incident_id",), sort=("opened_at",), partition=None,
)  # fmt: skip

ERASURES = TableContract(
    "ops/erasures",
    "one row per erased device",
    "The audit of erasures, and their tombstones: a message of a device whose hash stands here is not let in again.",
    (
        Column("number", Kind.BIGINT, "1, 2, 3, … without a gap, in the order of their tombstones", minimum=1),
        _text("device_hash", "HMAC-SHA256 of the device's id; the key is not in the lake"),
        _text("key_fingerprint", "which key made the hash"),
        _time("requested_at", "when the erasure began"),
        _time("finished_at", "when nothing of the device was left; null: unfinished", nullable=True),
        _text("counts_before", "JSON by table: the device's rows before"),
        _text("counts_after", "JSON by table: the device's rows after", nullable=True),
        _text("registry_changes", "JSON: the dates that its row in the registry bore on, so that their levels only grow",
              nullable=True),
        _text("pipeline_version", "version of the code that erased it"),
    ),
    keys=("number",), sort=("number",), partition=None,
)  # fmt: skip

TABLES: dict[str, TableContract] = {
    table.name: table
    for table in (
        BRONZE_READINGS, BRONZE_QUARANTINE, SILVER_READINGS, SILVER_REJECTED, SENSOR_WINDOWS, DEVICE_TYPE_WINDOWS,
        LOCATION_HOURLY, DAILY_SUMMARY, SENSOR_HEALTH, DURATION_P95, ANOMALY_EVENTS, REGISTRY_DEVICES, REGISTRY_METRICS,
        FIRST_READINGS, CHECK_RESULTS, INCIDENTS, ERASURES,
    )
}  # fmt: skip
