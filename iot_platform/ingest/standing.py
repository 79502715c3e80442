"""How ingestion stands, in one word and one sentence: from the worker's progress, its supervisor's word and the lease.

A pure judgement (``judge``), and the look that gathers what it needs: for ``iot status``, the streaming sensor, the alerts
and metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from iot_platform.ingest.lease import Holder, holder
from iot_platform.ingest.progress import Progress, moment, read_progress
from iot_platform.ingest.supervision import Supervision, read_supervision
from iot_platform.settings import Settings

State = Literal["absent", "running", "draining", "waiting", "stuck", "restarting", "failing", "dead", "failed", "stopped"]
PATIENT_FAILURES = 3
"""So many ends of the worker in a row, without a batch between them, are a restart still; more are a failure."""


@dataclass(frozen=True)
class Standing:
    """``state`` in one word, ``said`` in a sentence; ``progress`` and ``supervision``: what it was judged from."""

    state: State
    said: str
    progress: Progress | None = None
    supervision: Supervision | None = None

    @property
    def is_in_trouble(self) -> bool:
        """Whether somebody should look: it hangs, or its worker ends again and again."""
        return self.state in ("stuck", "failing")

    @property
    def restarts_soon(self) -> bool:
        """Whether the supervisor starts the worker again by itself: a drain would only be in its way."""
        return self.state == "restarting"

    def figures(self) -> dict[str, float]:
        """Named figures for a metrics system: counters and gauges, seconds and bytes; empty when nothing ever ran."""
        found: dict[str, float] = {"iot_ingest_up": float(self.state in ("running", "waiting", "draining"))}
        if self.supervision:
            found["iot_ingest_restarts_total"] = self.supervision.restarts
        if self.progress is None:
            return found if self.supervision else {}
        return found | {
            "iot_ingest_messages_per_second": self.progress.messages_per_second,
            "iot_ingest_rows_per_second": self.progress.rows_per_second,
            "iot_ingest_batch_duration_seconds": self.progress.batch_seconds,
            "iot_ingest_heartbeat_timestamp_seconds": moment(self.progress.beat_at).timestamp(),
            "iot_ingest_advanced_timestamp_seconds": moment(self.progress.advanced_at).timestamp(),
            "iot_ingest_resident_bytes": self.progress.rss_bytes,
            "iot_ingest_generation": self.progress.generation,
            **{f'iot_ingest_lag_records{{topic="{name}"}}': topic.lag for name, topic in self.progress.topics.items()},
        }

    def as_json(self) -> dict[str, Any]:
        """For ``iot status --json``: state and sentence, the worker's figures, the supervisor's; null what never was."""
        progress = asdict(self.progress) if self.progress else None
        if progress:
            del progress["landed"]
        return {
            "state": self.state, "said": self.said, "progress": progress,
            "supervisor": asdict(self.supervision) if self.supervision else None,
        }  # fmt: skip


def standing(settings: Settings, now: datetime | None = None, behind: Mapping[str, int] | None = None) -> Standing:
    """Look at the files now. ``behind``: records that wait per topic by the broker's own word, where that was asked."""
    return judge(
        read_progress(settings), read_supervision(settings), holder(settings),
        now=now or datetime.now(UTC), stuck_seconds=settings.stuck_seconds,
        waiting=None if behind is None else sum(behind.values()),
    )  # fmt: skip


def judge(
    progress: Progress | None, supervision: Supervision | None, held_by: Holder | None, *,
    now: datetime, stuck_seconds: float, waiting: int | None = None,
) -> Standing:  # fmt: skip
    """Pure. ``waiting``: records that wait; None: take the ingest's own word for it."""
    is_supervised = supervision is not None and supervision.is_running(now)
    failures = supervision.failures_in_a_row if supervision and is_supervised else 0
    if held_by is None:
        state, said = _nobody(progress, supervision, failures, is_supervised)
    else:
        own = progress if progress and progress.pid == held_by.pid else None
        count = (own.lag if own else 0) if waiting is None else waiting
        stood = stands_for(own, now) if own and count and own.state != "waiting" else 0.0
        stuck = f"{count:,} records wait and it committed nothing for {stood / 60:.0f} min" if stood > stuck_seconds else ""
        state, said = _somebody(held_by, own, stuck, failures)
    if supervision and supervision.restarts and is_supervised:
        said += f"; restarted {supervision.restarts} time(s), last because {supervision.last_reason}"
    return Standing(state, said, progress, supervision)


def stands_for(progress: Progress, now: datetime) -> float:
    """For how many seconds the ingest has neither committed anything nor found itself idle."""
    return (now - max(moment(progress.advanced_at), moment(progress.since))).total_seconds()


def _somebody(held_by: Holder, own: Progress | None, stuck: str, failures: int) -> tuple[State, str]:
    who = f"process {held_by.pid} on {held_by.host}"
    if held_by.mode == "drain":
        return "draining", f"{who} drains"
    if stuck:
        return "stuck", f"{who} is stuck: {stuck}"
    if failures > PATIENT_FAILURES:
        return "failing", f"{who} begins anew, the {failures} before it landed nothing"
    if own is None or own.state == "starting":
        return "running", f"{who} begins to ingest"
    if own.state == "waiting":
        return "waiting", f"{who} waits: {own.last_error}"
    return "running", f"{who} ingests continuously"


def _nobody(
    progress: Progress | None, supervision: Supervision | None, failures: int, is_supervised: bool
) -> tuple[State, str]:
    if supervision is not None and is_supervised:
        when = f" at {supervision.next_start_at}" if supervision.next_start_at else " now"
        if failures > PATIENT_FAILURES:
            return "failing", f"the worker ended {failures} times and landed nothing, the next is started{when}"
        return "restarting", f"the worker is started{when} by process {supervision.pid}"
    if supervision is not None and not supervision.is_over:
        return "dead", f"the supervisor (process {supervision.pid}) was killed or hangs; nobody ingests continuously"
    if progress is None:
        return "absent", "nobody ingested yet"
    if progress.state == "failed":
        return "failed", f"the last ingest failed: {progress.last_error}"
    if not progress.is_over and not progress.identity.is_running:
        return "dead", f"the last ingest (process {progress.pid}) was killed"
    return "stopped", f"nobody ingests; the last one ({progress.mode}) ended in order"
