"""What Spark's query tells of its source, without asking the broker again: the ends that it saw, and that it is idle."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

Ends = dict[str, dict[int, int]]


class Seen(NamedTuple):
    """``ends``: per topic and partition the end of the source's last look; ``idle_at``: when that look found nothing new."""

    ends: Ends | None
    idle_at: datetime | None


def seen_by(query: StreamingQuery) -> Seen:
    """The last look of a running query; it reports an idle one every ten seconds."""
    told = query.lastProgress
    if told is None or not told.sources:
        return Seen(None, None)
    source = told.sources[0]
    latest = parse(source.latestOffset)
    is_idle = latest is not None and told.numInputRows == 0 and parse(source.endOffset) == latest
    return Seen(latest, datetime.fromisoformat(told.timestamp) if is_idle else None)


def parse(text: str | None) -> Ends | None:
    """Kafka offsets as Spark writes them: ``{"topic": {"0": 12}}``; None for none, or for another form."""
    try:
        found = json.loads(text or "null")
        return {topic: {int(p): int(end) for p, end in ends.items()} for topic, ends in found.items()}
    except (AttributeError, TypeError, ValueError):
        return None
