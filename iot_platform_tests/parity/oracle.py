"""An independent, slow and simple computation of Silver and of the 5-minute windows, in plain Python."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from iot_platform_tests.transforms.rows import Row

LARGEST = 1e150


def verdicts(bronze: Sequence[Row], metrics: Sequence[Row]) -> list[tuple[Row, str | None]]:
    """Each row with the reason it is refused for, or None."""
    limits = {(row["contract"], row["metric"]): (row["min_value"], row["max_value"]) for row in metrics}
    seen: set[tuple[date, str, str]] = set()
    judged: list[tuple[Row, str | None]] = []
    arrival = ("kafka_timestamp", "topic", "kafka_partition", "kafka_offset")
    for row in sorted(bronze, key=lambda row: tuple(row[name] for name in arrival)):
        key = (row["event_date"], row["event_id"], row["metric"])
        low, high = limits.get((row["contract"], row["metric"]), (None, None))
        value = row["value"]
        if key in seen:
            reason = "duplicate"
        elif value is None:
            reason = "null_value"
        elif not math.isfinite(value):
            reason = "not_finite"
        elif (low is not None and value < low) or (high is not None and value > high):
            reason = "out_of_range"
        else:
            reason = None
        seen.add(key)
        judged.append((row, reason))
    return judged


def silver(bronze: Sequence[Row], metrics: Sequence[Row], day: date) -> dict[tuple[str, str], Row]:
    """Silver of the day by (event_id, metric): value, recent_*, z_score, is_anomaly."""
    series: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row, reason in verdicts(bronze, metrics):
        if reason is None:
            series[row["device_id"], row["metric"]].append(row)
    made: dict[tuple[str, str], Row] = {}
    for rows in series.values():
        rows.sort(key=lambda row: (row["event_time"], row["event_id"]))
        held = [min(max(row["value"], -LARGEST), LARGEST) for row in rows]
        for n, row in enumerate(rows):
            if row["event_date"] == day:
                scored = score(held[n], held[max(0, n - 100) : n])
                made[row["event_id"], row["metric"]] = row | scored | {"scale": max(map(abs, held))}
    return made


def score(value: float, past: Sequence[float]) -> Row:
    """What the past says of a value."""
    mean = statistics.fmean(past) if past else None
    std = statistics.stdev(past) if len(past) > 1 else None
    noise = 1e-9 * max(1.0, abs(mean or 0.0))
    if std is not None and std <= noise:
        std = 0.0
    z: float | None = None
    odd = False
    if len(past) >= 30 and mean is not None:
        if abs(value - mean) <= noise:
            z = 0.0
        elif std == 0.0:
            odd = True
        else:
            assert std is not None
            z = (value - mean) / std
            odd = abs(z) > 3
    return {"recent_mean": mean, "recent_std": std, "recent_count": len(past), "z_score": z, "is_anomaly": odd}


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
    part = position - math.floor(position)
    return low * (1 - part) + high * part


def windows(usable: Sequence[Row]) -> dict[tuple[str, str, datetime], Row]:
    """The 5-minute windows by (device_id, metric, window_start)."""
    grouped: dict[tuple[str, str, datetime], list[Row]] = defaultdict(list)
    for row in usable:
        time = row["event_time"]
        start = time - timedelta(minutes=time.minute % 5, seconds=time.second, microseconds=time.microsecond)
        grouped[row["device_id"], row["metric"], start].append(row)
    made: dict[tuple[str, str, datetime], Row] = {}
    for key, rows in grouped.items():
        values = [row["value"] for row in rows]
        held = [min(max(value, -LARGEST), LARGEST) for value in values]
        made[key] = {
            "readings": len(rows), "avg": math.fsum(held) / len(held), "sum": math.fsum(held), "min": min(values),
            "max": max(values), "p50": percentile(values, 0.5), "p95": percentile(values, 0.95),
            "p99": percentile(values, 0.99), "anomalies": sum(row["is_anomaly"] for row in rows),
            "first_event_time": min(row["event_time"] for row in rows),
            "last_event_time": max(row["event_time"] for row in rows),
            "scale": max(map(abs, held)),
        }  # fmt: skip
    return made
