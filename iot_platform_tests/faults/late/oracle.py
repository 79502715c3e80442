"""Silver, the rejected readings and every Gold table from scratch, in plain Python, from the messages that were sent.

Slow and simple on purpose, and independent: it reads no table and shares nothing with the transforms, the levels or the
parsing. Rows carry the figures that are compared, by the key of their table.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar

from iot_platform_tests.faults.late.messages import Taken

Row = dict[str, Any]
Rows = dict[tuple[Any, ...], Row]
K = TypeVar("K", bound=Hashable)
DAY = timedelta(days=1)
LATE = timedelta(minutes=10)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What the contracts promise, said here a second time.
BOUNDS: dict[tuple[str, str], tuple[float | None, float | None]] = {
    ("environment_reading", "temperature"): (-50, 150),
    ("environment_reading", "humidity"): (0, 100),
    ("environment_reading", "energy"): (0, 10_000),
    ("sensor_reading", "temperature"): (-50, 150),
    ("sensor_reading", "humidity"): (0, 100),
}


@dataclass(frozen=True)
class Device:
    """A device as somebody declared it, or as its first readings show it."""

    contract: str
    cadence: float | None
    installed: datetime
    retired: datetime | None = None
    site: str | None = None

    def serves(self, day: date) -> bool:
        """Whether the device is in service at some time of the date."""
        return self.installed < midnight(day) + DAY and (self.retired is None or self.retired >= midnight(day))


@dataclass
class World:
    """Everything that tables may depend on: what was taken, in the order of landing, and what was declared.

    Of an erased device nothing is left but what its messages said of the time: a clock does not go back. ``kept``: Silver of
    the dates that are closed, as it was then.
    """

    taken: list[Taken] = field(default_factory=list)
    declared: dict[str, Device] = field(default_factory=dict)
    bounds: dict[tuple[str, str], tuple[float | None, float | None]] = field(default_factory=lambda: dict(BOUNDS))
    closed_until: datetime = EPOCH
    erased: set[str] = field(default_factory=set)
    kept: dict[date, Rows] = field(default_factory=dict)

    def of(self, day: date) -> list[Taken]:
        return [one for one in self.taken if one.said.moment.date() == day and one.said.device not in self.erased]

    @property
    def dates(self) -> list[date]:
        return sorted({one.said.moment.date() for one in self.taken})


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def at(moment_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=moment_us)


def grouped(rows: Iterable[Row], key: Callable[[Row], K]) -> dict[K, list[Row]]:
    found: defaultdict[K, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def newest(taken: Sequence[Taken]) -> dict[str, datetime]:
    """Per contract how far its time has come: no further than the clock of the broker."""
    found: dict[str, datetime] = {}
    for one in taken:
        reached = min(one.said.moment, at(one.place.arrived))
        found[one.said.contract] = max(reached, found.get(one.said.contract, reached))
    return found


def late_keys(taken: Sequence[Taken]) -> set[tuple[str, int, int, str]]:
    """The readings that came more than 10 minutes behind what their partition had brought."""
    late: set[tuple[str, int, int, str]] = set()
    reached: dict[tuple[str, int], datetime] = {}
    by_message: dict[tuple[str, int, int], list[Taken]] = {}
    for one in taken:
        by_message.setdefault((one.place.topic, one.place.partition, one.place.offset), []).append(one)
    for place in sorted(by_message):
        moment = by_message[place][0].said.moment
        before = reached.get(place[:2])
        if before is not None and moment < before - LATE:
            late |= {one.key for one in by_message[place]}
        here = min(moment, at(by_message[place][0].place.arrived))
        reached[place[:2]] = max(here, before or here)
    return late


def registry(world: World) -> dict[str, Device]:
    """All devices: declared, else inferred from their first readings in order of arrival."""
    first: defaultdict[str, list[Taken]] = defaultdict(list)
    for one in sorted(world.taken, key=lambda one: (one.batch, one.place)):
        first[one.said.device].append(one)
    found = {name: device for name, device in world.declared.items() if name not in world.erased}
    for name, readings in first.items():
        if name not in found and name not in world.erased:
            moments = list(dict.fromkeys(one.said.moment for one in readings))[:31]
            gaps = [(b - a).total_seconds() for a, b in zip(sorted(moments), sorted(moments)[1:], strict=False)]
            cadence = statistics.median(gaps) if gaps else None
            found[name] = Device(readings[0].said.contract, cadence, min(one.said.moment for one in readings))
    return found


def verdicts(world: World, day: date) -> list[tuple[Taken, str | None]]:
    """The readings of a date in order of arrival, each with why it is not usable, or None."""
    seen: set[tuple[object, ...]] = set()
    judged: list[tuple[Taken, str | None]] = []
    for one in sorted(world.of(day), key=lambda one: one.place):
        identity = one.said.identity(one.metric)
        low, high = world.bounds.get((one.said.contract, one.metric), (None, None))
        reason = None
        if identity in seen:
            reason = "duplicate"
        elif one.value is None:
            reason = "null_value"
        elif (low is not None and one.value < low) or (high is not None and one.value > high):
            reason = "out_of_range"
        seen.add(identity)
        judged.append((one, reason))
    return judged


def rejected(world: World, day: date) -> Rows:
    return {
        one.key: {"device_id": one.said.device, "metric": one.metric, "value": one.value, "reason": reason}
        for one, reason in verdicts(world, day)
        if reason
    }


def silver(world: World, day: date) -> Rows:
    """Usable readings of the date, scored against up to 100 before them, of this date and the one before."""
    late = late_keys(world.taken)
    usable = [one for near in (day - DAY, day) for one, reason in verdicts(world, near) if reason is None]
    series: defaultdict[tuple[str, str], list[Taken]] = defaultdict(list)
    for one in usable:
        series[one.said.device, one.metric].append(one)
    made: Rows = {}
    for readings in series.values():
        readings.sort(key=lambda one: (one.said.moment, one.said.event_id))
        values = [one.value or 0.0 for one in readings]
        for n, one in enumerate(readings):
            said = one.said
            if said.moment.date() != day:
                continue
            declared = world.declared.get(said.device)
            site = said.site or (declared.site if declared and declared.serves(day) else None)
            made[one.key] = score(values[n], values[max(0, n - 100) : n]) | {
                "contract": said.contract, "device_id": said.device, "metric": one.metric, "value": values[n],
                "event_time": said.moment, "site": site, "event_duration_ms": said.duration or None,
                "is_late": one.key in late,
            }  # fmt: skip
    return made


def silver_as_it_stands(world: World, day: date) -> Rows:
    """The same for a date that is open; a closed one is never made again, whatever is declared later, and what looks back on
    it sees it as it was. Only erasures reach it."""
    if day not in world.kept:
        return silver(world, day)
    return {key: row for key, row in world.kept[day].items() if row["device_id"] not in world.erased}


def score(value: float, past: Sequence[float]) -> Row:
    """What the past says of a value: odd beyond three standard deviations, from 30 values on; noise is no spread."""
    count = len(past)
    mean = math.fsum(past) / count if count else None
    std = math.sqrt(math.fsum((x - mean) ** 2 for x in past) / (count - 1)) if mean is not None and count > 1 else None
    noise = 1e-9 * max(1.0, abs(mean or 0.0))
    std = 0.0 if std is not None and std <= noise else std
    found: Row = {"recent_mean": mean, "recent_std": std, "recent_count": count, "z_score": None, "is_anomaly": False}
    if count < 30 or mean is None or std is None:
        return found
    if abs(value - mean) <= noise:
        return found | {"z_score": 0.0}
    if std == 0.0:
        return found | {"is_anomaly": True}
    z = (value - mean) / std
    return found | {"z_score": z, "is_anomaly": abs(z) > 3}


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low, part = int(position), position - int(position)
    return ordered[low] if part == 0 else ordered[low] * (1 - part) + ordered[low + 1] * part


def statistics_of(rows: Sequence[Row]) -> Row:
    values = [row["value"] for row in rows]
    return {
        "readings": len(rows), "avg": sum(values) / len(values), "min": min(values), "max": max(values),
        "anomalies": sum(row["is_anomaly"] for row in rows),
    }  # fmt: skip


def percentiles(rows: Sequence[Row]) -> Row:
    values = [row["value"] for row in rows]
    return {name: percentile(values, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def floor(moment: datetime, seconds: int) -> datetime:
    return midnight(moment.date()) + timedelta(seconds=(moment - midnight(moment.date())).seconds // seconds * seconds)


def windows(usable: Rows) -> Rows:
    found = grouped(usable.values(), lambda row: (row["device_id"], row["metric"], floor(row["event_time"], 300)))
    return {
        key: statistics_of(rows)
        | percentiles(rows)
        | {
            "sum": sum(row["value"] for row in rows),
            "first_event_time": min(row["event_time"] for row in rows),
            "last_event_time": max(row["event_time"] for row in rows),
        }
        for key, rows in found.items()
    }


def type_windows(usable: Rows) -> Rows:
    events = [row for row in usable.values() if row["contract"] == "device_event"]
    made: Rows = {}
    for key, rows in grouped(events, lambda row: (row["metric"], floor(row["event_time"], 60))).items():
        durations = [row["event_duration_ms"] for row in rows]
        made[key] = {
            "events": len(rows), "avg_event_duration_ms": sum(durations) / len(rows),
            "min_event_duration_ms": min(durations), "max_event_duration_ms": max(durations),
            "avg_value": sum(row["value"] for row in rows) / len(rows),
        }  # fmt: skip
    return made


def hourly(usable: Rows) -> Rows:
    rows = usable.values()
    found = grouped(rows, lambda row: (row["site"] or "unknown", row["metric"], floor(row["event_time"], 3600)))
    return {
        key: statistics_of(rows) | {"sensors": len({row["device_id"] for row in rows})} for key, rows in found.items()
    }


def daily(week: Mapping[date, Rows], refused: Rows, day: date) -> Rows:
    """``week``: Silver of D-6 … D."""
    today = grouped(week[day].values(), lambda row: (row["device_id"], row["metric"]))
    whole = grouped((row for rows in week.values() for row in rows.values()), lambda row: (row["device_id"], row["metric"]))
    wrong = grouped(refused.values(), lambda row: (row["device_id"], row["metric"]))
    nothing = dict.fromkeys(("avg", "min", "max", "p50", "p95", "p99")) | {"readings": 0, "anomalies": 0}
    made: Rows = {}
    for key in today.keys() | wrong.keys():
        values = [row["value"] for row in whole.get(key, ())]
        reasons = [row["reason"] for row in wrong.get(key, ())]
        made[key] = (statistics_of(today[key]) | percentiles(today[key]) if key in today else dict(nothing)) | {
            "avg_7d": sum(values) / len(values) if values else None,
            "duplicates": reasons.count("duplicate"),
            "null_values": reasons.count("null_value"),
            "out_of_range": reasons.count("out_of_range"),
        }
    return made


def health(world: World, usable: Rows, day: date) -> Rows:
    """Every window of every registered device that the contract's time has passed, silent ones included."""
    reached = newest(world.taken)
    alive = grouped(usable.values(), lambda row: row["device_id"])
    made: Rows = {}
    for name, device in registry(world).items():
        passed = max(reached.get(device.contract, EPOCH), world.closed_until)
        if device.cadence is None or not 0 < device.cadence <= 86_400:
            continue
        length = min(86_400 // n for n in range(1, 289) if 86_400 % n == 0 and 86_400 // n >= device.cadence)
        moments = {row["event_time"] for row in alive.get(name, ())}
        for n in range(86_400 // length):
            start = midnight(day) + timedelta(seconds=n * length)
            end = start + timedelta(seconds=length)
            if end > passed or start < device.installed or (device.retired is not None and end > device.retired):
                continue
            expected = length / device.cadence
            actual = sum(start <= moment < end for moment in moments)
            share = min(100.0, 100 * actual / expected)
            made[name, start] = {
                "window_seconds": length, "expected": expected, "actual": actual, "health_pct": share,
                "is_failing": share < 90,
            }  # fmt: skip
    return made


def durations(usable: Rows) -> Rows:
    events = [row for row in usable.values() if row["contract"] == "device_event"]
    made: Rows = {}
    for key, rows in grouped(events, lambda row: (row["metric"],)).items():
        values = [row["event_duration_ms"] for row in rows]
        if len(values) < 500:
            continue
        mean, std = statistics.fmean(values), statistics.pstdev(values)
        kept = [value for value in values if std <= 1e-12 * mean or abs(value - mean) <= 3 * std * (1 + 1e-12)]
        made[key] = {
            "events": len(values), "excluded": len(values) - len(kept), "mean": mean, "std": std,
            "p95": percentile(kept, 0.95),
        }  # fmt: skip
    return made


def incidents(world: World, usable: Rows, day: date) -> Rows:
    """Anomalous readings that lie close together, as one event."""
    devices = registry(world)
    odd = [row for row in usable.values() if row["is_anomaly"]]
    made: Rows = {}
    for (name, metric), rows in grouped(odd, lambda row: (row["device_id"], row["metric"])).items():
        device = devices[name]
        cadence = device.cadence if device.serves(day) and device.cadence else 0.0
        apart = timedelta(seconds=max(900.0, 3 * cadence))
        runs: list[list[Row]] = []
        for row in sorted(rows, key=lambda row: row["event_time"]):
            if runs and row["event_time"] < runs[-1][-1]["event_time"] + apart:
                runs[-1].append(row)
            else:
                runs.append([row])
        for run in runs:
            scores = [abs(row["z_score"]) for row in run if row["z_score"] is not None]
            ended = run[-1]["event_time"]
            made[name, metric, run[0]["event_time"]] = {
                "ended_at": ended, "readings": len(run), "peak_score": max(scores, default=None),
                "continues": ended + apart > midnight(day) + DAY,
            }  # fmt: skip
    return made


def recomputed(world: World, days: Iterable[date]) -> dict[str, dict[date, Rows]]:
    """Every derived table of these dates, by table and date."""
    days = sorted(days)
    needed = {day - DAY * back for day in days for back in range(7)}
    usable = {day: silver_as_it_stands(world, day) for day in needed}
    made: dict[str, dict[date, Rows]] = defaultdict(dict)
    for day in days:
        refused = rejected(world, day)
        week = {day - DAY * back: usable[day - DAY * back] for back in range(7)}
        made["silver/readings"][day] = usable[day]
        made["silver/rejected_readings"][day] = refused
        made["gold/sensor_windows"][day] = windows(usable[day])
        made["gold/device_type_windows"][day] = type_windows(usable[day])
        made["gold/location_hourly"][day] = hourly(usable[day])
        made["gold/daily_summary"][day] = daily(week, refused, day)
        made["gold/sensor_health"][day] = health(world, usable[day], day)
        made["gold/duration_p95"][day] = durations(usable[day])
        made["gold/anomaly_events"][day] = incidents(world, usable[day], day)
    return made
