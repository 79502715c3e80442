"""The judge of lakes that a test fills without Kafka: every message that was sent is in Bronze or in quarantine, once.

What was sent is known from the test's own log, where it is now from the rows of the two tables: no checkpoint, no commit and
no ledger is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from iot_platform.ingest.position import QUARANTINE, READINGS
from iot_platform.lake import Lake

Place = tuple[str, int, int]  # topic, partition, offset
Sent = Mapping[Place, Collection[str] | None]
"""Per message the metrics that it says; None where only its being there is judged, or where no contract reads it."""


@dataclass(frozen=True)
class Count:
    """``lost``: messages, or readings of them, that are nowhere; ``duplicated``: rows too many, also of what nobody sent."""

    messages: int
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """As the fault table takes it."""
        return {"messages": self.messages, "lost": len(self.lost), "duplicated": len(self.duplicated)}

    def assert_exact(self) -> None:
        assert not self.lost and not self.duplicated, (
            f"of {self.messages} messages: lost {self.lost[:5]}, too many {self.duplicated[:5]}"
        )


def offsets_of(topic: str, messages: int) -> Sent:
    """The first messages of a topic with one partition."""
    return {(topic, 0, offset): None for offset in range(messages)}


def count(lake: Lake, sent: Sent, gone: Collection[Place] = ()) -> Count:
    """Look for each message in both tables. ``gone``: those that were deleted on purpose, and must stay away."""
    readings, waiting, redriven = landed(lake)
    lost: list[str] = []
    more: list[str] = []
    for place, metrics in sent.items():
        rows, held = readings.get(place, Counter()), waiting[place]
        homes = bool(rows) + held
        if place in gone:
            more += [f"{place} is there again"] * homes
            continue
        if not homes:
            lost.append(str(place))
        elif rows and metrics is not None:
            lost += [f"{place} {metric}" for metric in set(metrics) - rows.keys()]
        more += [str(place)] * max(homes - 1, redriven[place] - 1, 0)
        more += [f"{place} {metric}" for metric, found in rows.items() for _ in range(found - 1)]
    more += [f"{place} was never sent" for place in (readings.keys() | waiting.keys() | redriven.keys()) - sent.keys()]
    return Count(len(sent), tuple(lost), tuple(more))


def landed(lake: Lake) -> tuple[dict[Place, Counter[str]], Counter[Place], Counter[Place]]:
    """Metrics by message in Bronze; messages that wait in quarantine; those that it says were redriven."""
    names = ["topic", "kafka_partition", "kafka_offset"]
    readings: dict[Place, Counter[str]] = {}
    for row in _rows(lake, READINGS, [*names, "metric"]):
        readings.setdefault(_place(row), Counter())[str(row["metric"])] += 1
    waiting: Counter[Place] = Counter()
    redriven: Counter[Place] = Counter()
    for row in _rows(lake, QUARANTINE, [*names, "redriven_at"]):
        (waiting if row["redriven_at"] is None else redriven)[_place(row)] += 1
    return readings, waiting, redriven


def _rows(lake: Lake, table: str, columns: list[str]) -> Iterable[dict[str, object]]:
    return lake.snapshot(table).delta.to_pyarrow_table(columns=columns).to_pylist()


def _place(row: Mapping[str, object]) -> Place:
    return str(row["topic"]), int(str(row["kafka_partition"])), int(str(row["kafka_offset"]))
