"""What a drain or a continuous ingest landed: counted batch by batch, as JSON for programs and for the progress file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from iot_platform.ingest.sink import BatchResult, Ranges


@dataclass
class DrainResult:
    """What was landed. ``rows_by_date``: readings per event date (UTC); ``offsets``: ``[from, until)`` that were read."""

    batches: int = 0
    messages: int = 0
    readings: int = 0
    quarantined: int = 0
    late: int = 0
    rows_by_date: dict[date, int] = field(default_factory=dict)
    offsets: Ranges = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, batch: BatchResult) -> None:
        self.batches += 1
        self.messages += batch.messages
        self.readings += batch.readings
        self.quarantined += batch.quarantined
        self.late += batch.late
        for day, count in batch.rows_by_date.items():
            self.rows_by_date[day] = self.rows_by_date.get(day, 0) + count
        self._add_offsets(batch.offsets)

    def _add_offsets(self, offsets: Ranges) -> None:
        for topic, spans in offsets.items():
            for partition, (start, until) in spans.items():
                if start < until:
                    known = self.offsets.setdefault(topic, {})
                    known[partition] = (known.get(partition, (start, until))[0], until)

    def add_json(self, landed: Mapping[str, Any]) -> None:
        """Add what ``as_json`` of another result says."""
        if not landed:
            return
        for name in ("batches", "messages", "readings", "quarantined", "late"):
            setattr(self, name, getattr(self, name) + landed[name])
        for day, count in landed["rows_by_date"].items():
            at = date.fromisoformat(day)
            self.rows_by_date[at] = self.rows_by_date.get(at, 0) + count
        self._add_offsets(
            {topic: {int(p): (span[0], span[1]) for p, span in spans.items()} for topic, spans in landed["offsets"].items()}
        )

    def as_json(self) -> dict[str, Any]:
        """Dates as ISO text, offsets ``[from, until)`` per topic and partition."""
        return {
            "batches": self.batches,
            "messages": self.messages,
            "readings": self.readings,
            "quarantined": self.quarantined,
            "late": self.late,
            "rows_by_date": {day.isoformat(): rows for day, rows in sorted(self.rows_by_date.items())},
            "offsets": {
                topic: {str(partition): list(span) for partition, span in sorted(spans.items())}
                for topic, spans in sorted(self.offsets.items())
            },
            "seconds": round(self.seconds, 3),
        }
