"""The daily summary of a UTC date: volumes, health, anomalies, p95, ledger, quarantine and incidents, as the tables say.

What belongs here: the figures and their Markdown. The asset ``reports/daily_report`` files it, ``alerts`` sends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from iot_platform.contracts.duckdb import select_files
from iot_platform.lake.lake import Lake
from iot_platform.lake.ledger import DateLedger, date_ledger
from iot_platform.lake.query import as_json

Row = Mapping[str, Any]
WORST = 5
VOLUMES = """
select contract, count(*) as readings, count(distinct (topic, kafka_partition, kafka_offset)) as messages,
    count(distinct device_id) as devices, count(*) filter (where is_late) as late,
    count(*) filter (where replayed) as replayed
from bronze_readings group by contract order by contract"""
HEALTH = """
select device_id, count(*) as windows, count(*) filter (where is_failing) as failing, avg(health_pct) as health_pct
from gold_sensor_health group by device_id order by health_pct, device_id"""
ANOMALIES = """
select metric, count(*) as events, sum(readings)::bigint as readings, count(distinct device_id) as devices,
    max(peak_score) as peak_score
from gold_anomaly_events group by metric order by events desc, metric"""
P95 = "select device_type, events, excluded, mean, p95 from gold_duration_p95 order by device_type"
QUARANTINE = "select reason, count(*) as messages from bronze_quarantine group by reason order by messages desc, reason"
INCIDENTS = """
select kind, subject, severity, summary, opened_at, recovered_at from ops_incidents
where opened_at < $until and coalesce(recovered_at, $until) >= $since order by opened_at, incident_id"""


@dataclass(frozen=True)
class Health:
    """The fleet on the date. ``health_pct`` is the mean over all device windows; None without any."""

    devices: int = 0
    windows: int = 0
    failing_windows: int = 0
    silent_devices: int = 0
    health_pct: float | None = None
    worst: Sequence[Row] = ()


@dataclass(frozen=True)
class DailySummary:
    """One UTC date. ``quarantine`` counts messages that arrived on it; all else goes by event time.

    ``volumes``: a row a contract (readings as landed in Bronze, messages, devices, late and replayed readings).
    ``anomalies``: a row a metric. ``p95``: a row a device type, in ms. ``incidents``: those open at some time of the date.
    """

    day: date
    volumes: Sequence[Row] = ()
    health: Health = field(default_factory=Health)
    anomalies: Sequence[Row] = ()
    p95: Sequence[Row] = ()
    ledger: DateLedger | None = None
    quarantine: Sequence[Row] = ()
    incidents: Sequence[Row] = ()

    @property
    def readings(self) -> int:
        """Rows that landed in Bronze."""
        return sum(row["readings"] for row in self.volumes)

    @property
    def late(self) -> int:
        return sum(row["late"] for row in self.volumes)

    @property
    def quarantined(self) -> int:
        return sum(row["messages"] for row in self.quarantine)

    @property
    def headline(self) -> str:
        """The date in one line."""
        health = "no health" if self.health.health_pct is None else f"health {self.health.health_pct:.1f} %"
        return (
            f"{self.day}: {self.readings:,} readings, {health}, {sum(row['events'] for row in self.anomalies):,} anomalies,"
            f" {self.quarantined:,} quarantined, {len(self.incidents)} incident(s)"
        )

    def sections(self) -> list[tuple[str, str, list[Row]]]:
        """What there is to show: title, a sentence, and rows (perhaps none)."""
        ledger, health = self.ledger or DateLedger(self.day, 0, 0), self.health
        balance = "balanced" if ledger.is_balanced else f"NOT BALANCED, {ledger.difference:+,} row(s)"
        late = f"{self.late:,} late ({self.late / self.readings:.1%})" if self.readings else "none"
        score = "no device was expected to report" if health.health_pct is None else f"{health.health_pct:.1f} % on average"
        return [
            ("Volumes", f"{self.readings:,} readings; {late}.", list(self.volumes)),
            (
                "Ledger",
                f"{ledger.bronze:,} in Bronze = {ledger.silver:,} in Silver + {sum(ledger.rejected.values()):,} rejected"
                f" + {ledger.pending:,} pending: {balance}.",
                [{"rejected as": reason, "rows": rows} for reason, rows in ledger.rejected.items()],
            ),
            ("Quarantine", f"{self.quarantined:,} message(s) arrived that cannot be readings.", list(self.quarantine)),
            (
                "Health",
                f"{score}; {health.failing_windows:,} of {health.windows:,} device windows failing,"
                f" {health.silent_devices} of {health.devices} device(s) silent.",
                list(health.worst),
            ),
            ("Anomalies", f"{sum(row['events'] for row in self.anomalies):,} event(s).", list(self.anomalies)),
            ("Durations, p95", f"{len(self.p95)} device type(s) with enough events; in ms.", list(self.p95)),
            ("Incidents", f"{len(self.incidents)} open at some time of the day.", list(self.incidents)),
        ]

    def markdown(self) -> str:
        """The whole summary as Markdown."""
        parts = [f"# Daily summary of {self.day} (UTC)", self.headline]
        for title, sentence, rows in self.sections():
            parts += [f"## {title}", sentence, *([_table(rows)] if rows else [])]
        return "\n\n".join(parts) + "\n"

    def as_json(self) -> dict[str, Any]:
        """The whole summary as JSON has it: dates and times ISO 8601, numbers unrounded."""
        found = asdict(self) | {"ledger": self.ledger.as_json() if self.ledger else None}
        return as_json(found | {"readings": self.readings, "late": self.late, "quarantined": self.quarantined})


def daily_summary(lake: Lake, day: date) -> DailySummary:
    """The summary of one UTC date from the newest versions of the tables; tables never made count as empty.

    Raises ``LakeError`` for a table that cannot be read.
    """
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    devices = _rows(lake, "gold/sensor_health", HEALTH, day)
    return DailySummary(
        day,
        volumes=_rows(lake, "bronze/readings", VOLUMES, day),
        health=_health(devices),
        anomalies=_rows(lake, "gold/anomaly_events", ANOMALIES, day),
        p95=_rows(lake, "gold/duration_p95", P95, day),
        ledger=date_ledger(lake, [day])[0],
        quarantine=_rows(lake, "bronze/quarantine", QUARANTINE, day),
        incidents=_rows(
            lake, "ops/incidents", INCIDENTS, None, {"since": since, "until": since + timedelta(days=1)}
        ),
    )  # fmt: skip


def _health(devices: Sequence[Row]) -> Health:
    windows = sum(row["windows"] for row in devices)
    return Health(
        devices=len(devices),
        windows=windows,
        failing_windows=sum(row["failing"] for row in devices),
        silent_devices=sum(1 for row in devices if row["health_pct"] == 0),
        health_pct=sum(row["health_pct"] * row["windows"] for row in devices) / windows if windows else None,
        worst=[row for row in devices if row["failing"]][:WORST],
    )


def _rows(lake: Lake, table: str, sql: str, day: date | None, values: Mapping[str, Any] | None = None) -> list[Row]:
    """The answer to a question about one table, of one of its dates."""
    snapshot = lake.snapshot(table)
    files = snapshot.files(None if day is None else [day])
    if not files:
        return []
    with lake.reading(table) as connection:
        connection.execute(f"create view {snapshot.contract.view} as {select_files(snapshot.contract, files)}")
        answer = connection.execute(sql, dict(values or {}))
        names = [column[0] for column in answer.description or ()]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def _table(rows: Iterable[Row]) -> str:
    listed = list(rows)
    names = list(listed[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(cell(row[name]) for name in names) + " |" for row in listed]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value for people: floats to two figures, times to the minute, nothing as a dash."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.2f}"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        case _:
            return str(value).replace("|", "\\|").replace("\n", " ")
