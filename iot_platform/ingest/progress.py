"""What the ingest says of itself while it runs, in one file: ``$IOT_HOME/ingest/progress.json``, always replaced whole.

Written by the process that ingests, after each batch and every few seconds; a disk that refuses the file never stops a
batch. All times are UTC. ``standing`` reads it together with what the supervisor says; docs/operations.md explains each key.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from iot_platform.errors import PlatformError
from iot_platform.local.process import ProcessIdentity, read_state, write_state
from iot_platform.settings import Settings

if TYPE_CHECKING:
    from iot_platform.ingest.lease import Lease
    from iot_platform.ingest.sink import BatchResult

BEAT_SECONDS = 5.0
RATE_WINDOW = timedelta(seconds=60)
Offsets = Mapping[str, Mapping[int, int]]


@dataclass(frozen=True)
class TopicProgress:
    """One topic as the ingest knows it: what is committed, per partition and summed, and the end that it last saw."""

    committed_offset: int
    end_offset: int
    lag: int
    partitions: Mapping[str, int]


@dataclass(frozen=True)
class Progress:
    """One look. ``advanced_at``: when offsets were committed last, or nothing waited; ``state``: starting, ingesting,
    waiting (for the broker), stopped (in order) or failed. Rates are over the last minute; times are ISO 8601, UTC."""

    state: str
    mode: str
    host: str
    pid: int
    started_at: float
    since: str
    beat_at: str
    advanced_at: str
    generation: int = 0
    batch_id: int | None = None
    batch_seconds: float = 0.0
    batch_messages: int = 0
    batch_running_since: str | None = None
    last_batch_at: str | None = None
    messages_per_second: float = 0.0
    rows_per_second: float = 0.0
    rss_bytes: int = 0
    last_error: str = ""
    last_error_at: str | None = None
    topics: Mapping[str, TopicProgress] = field(default_factory=dict)
    landed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> ProcessIdentity:
        return ProcessIdentity(self.pid, self.started_at)

    @property
    def is_over(self) -> bool:
        return self.state in ("stopped", "failed")

    @property
    def lag(self) -> int:
        """Records that waited when the ingest last looked, over all topics."""
        return sum(topic.lag for topic in self.topics.values())


def progress_file(settings: Settings) -> Path:
    return settings.home / "ingest" / "progress.json"


def read_progress(settings: Settings) -> Progress | None:
    """What the newest ingest of this home said last, however it ended; None when there is nothing that can be read."""
    state = read_state(progress_file(settings))
    try:
        topics = {name: TopicProgress(**topic) for name, topic in state.pop("topics", {}).items()}
        return Progress(**state, topics=topics)
    except (TypeError, AttributeError):
        return None


def moment(text: str) -> datetime:
    """A time of the file."""
    return datetime.fromisoformat(text)


def iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ProgressLog:
    """Keeps the file true for the process that ingests. Safe to call from several threads."""

    def __init__(
        self, settings: Settings, mode: str, lease: Lease, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._lease = lease
        self._file = progress_file(settings)
        self._now = now
        self._lock = threading.Lock()
        self._recent: deque[tuple[datetime, int, int]] = deque()
        self._beaten = now()
        identity = ProcessIdentity.of(os.getpid())
        at = iso(self._beaten)
        self._current = Progress("starting", mode, socket.gethostname(), identity.pid, identity.started_at, at, at, at)
        self._write()

    def state(self, state: str, error: str = "") -> None:
        """The stream enters this state; ``error``: because of that."""
        at = iso(self._now())
        told = {"last_error": error, "last_error_at": at} if error else {}
        self._update(state=state, batch_running_since=None, **told)

    def begin(self, generation: int, committed: Offsets, ends: Mapping[str, int]) -> None:
        """The stream runs, from these offsets on; ``ends``: the topics' ends at its start, summed over partitions."""
        self._update(state="ingesting", generation=generation, topics=_topics(committed, ends))

    def batch_begins(self, batch_id: int) -> None:
        self._update(batch_id=batch_id, batch_running_since=iso(self._now()))

    def batch(self, result: BatchResult, seconds: float, landed: Mapping[str, Any]) -> None:
        """A batch is in the tables; ``landed``: what this process landed so far."""
        now = self._now()
        committed = {topic: {p: until for p, (_, until) in spans.items()} for topic, spans in result.offsets.items()}
        with self._lock:
            self._recent.append((now, result.messages, result.readings))
            ends = {name: topic.end_offset for name, topic in self._current.topics.items()}
        self._update(
            advanced_at=iso(now), last_batch_at=iso(now), batch_id=result.batch_id, batch_seconds=round(seconds, 3),
            batch_messages=result.messages, batch_running_since=None, topics=_topics(committed, ends), landed=dict(landed),
        )  # fmt: skip

    @property
    def is_due(self) -> bool:
        """Whether the last writing is so long ago that the file should say again that the ingest lives."""
        return (self._now() - self._beaten).total_seconds() >= BEAT_SECONDS

    def beat(self, ends: Offsets | None = None, idle_at: datetime | None = None) -> None:
        """It lives. ``ends``: the topics' ends that the source saw last; ``idle_at``: when it last found nothing to do."""
        known = self._current
        changes: dict[str, Any] = {"rss_bytes": resident_bytes(known.pid)}
        if ends:
            committed = {name: {int(p): at for p, at in topic.partitions.items()} for name, topic in known.topics.items()}
            changes["topics"] = _topics(committed, {topic: sum(of.values()) for topic, of in ends.items()})
        if idle_at and idle_at > moment(known.advanced_at):
            changes["advanced_at"] = iso(idle_at)
        self._update(**changes)

    def _update(self, **changes: Any) -> None:
        with self._lock:
            now = self._beaten = self._now()
            while self._recent and now - self._recent[0][0] > RATE_WINDOW:
                self._recent.popleft()
            spent = min(RATE_WINDOW, now - moment(self._current.since)).total_seconds() or 1.0
            self._current = replace(
                self._current,
                beat_at=iso(now),
                messages_per_second=round(sum(messages for _, messages, _ in self._recent) / max(spent, 1.0), 1),
                rows_per_second=round(sum(rows for _, _, rows in self._recent) / max(spent, 1.0), 1),
                **changes,
            )
            self._write()

    def _write(self) -> None:
        if self._lease.lost.is_set():
            return  # the file is another's by now
        with suppress(PlatformError):  # a full disk is told by the batch that meets it
            write_state(self._file, asdict(self._current))


def _topics(committed: Offsets, ends: Mapping[str, int]) -> dict[str, TopicProgress]:
    found: dict[str, TopicProgress] = {}
    for name, partitions in sorted(committed.items()):
        taken = sum(partitions.values())
        end = max(taken, ends.get(name, 0))
        found[name] = TopicProgress(taken, end, end - taken, {str(p): at for p, at in sorted(partitions.items())})
    return found


def resident_bytes(pid: int) -> int:
    """Memory that a process and all it started (Spark's JVM, its Python workers) hold; 0 when it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    held = 0
    for member in family:
        with suppress(psutil.Error):
            held += member.memory_info().rss
    return held
