"""What Spark tells of its source is taken as it is, and not at all where it tells something else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
from pyspark.sql.streaming.listener import StreamingQueryProgress

from iot_platform.ingest.seen import Seen, parse, seen_by

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

AT = "2026-11-20T18:00:00.123Z"


class Query:
    """A query whose last look was this."""

    def __init__(self, latest: Any, end: Any, rows: int) -> None:
        source = {
            "description": "KafkaV2", "startOffset": None, "endOffset": end, "latestOffset": latest, "numInputRows": rows,
            "inputRowsPerSecond": 0.0, "processedRowsPerSecond": 0.0,
        }  # fmt: skip
        told = {
            "id": "0b0cff4a-6b08-4b34-9ee4-1b3cd2eb0b4e", "runId": "0b0cff4a-6b08-4b34-9ee4-1b3cd2eb0b4e", "name": "bronze",
            "timestamp": AT, "batchId": 3, "batchDuration": 5, "durationMs": {}, "eventTime": {}, "stateOperators": [],
            "sources": [source], "sink": {"description": "ForeachBatchSink", "numOutputRows": -1}, "numInputRows": rows,
            "inputRowsPerSecond": 0.0, "processedRowsPerSecond": 0.0,
        }  # fmt: skip
        self.lastProgress = StreamingQueryProgress.fromJson(told)


def seen(latest: Any, end: Any, rows: int) -> Seen:
    return seen_by(cast("StreamingQuery", Query(latest, end, rows)))


def test_a_look_that_found_nothing_new_is_idle_and_another_is_not() -> None:
    ends = {"t": {"0": 7, "1": 0}}
    assert seen(ends, ends, 0) == ({"t": {0: 7, 1: 0}}, datetime(2026, 11, 20, 18, 0, 0, 123_000, UTC))
    assert seen(ends, ends, 7).idle_at is None
    assert seen(ends, {"t": {"0": 5, "1": 0}}, 0).idle_at is None
    assert seen(None, None, 0) == (None, None)


@pytest.mark.parametrize("text", [None, "", "null", "{", "[1]", '{"t": 3}', '{"t": {"x": 1}}'])
def test_another_form_is_none(text: str | None) -> None:
    assert parse(text) is None
