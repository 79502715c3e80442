"""Spark's streaming checkpoint, looked at from outside: may it be gone on with, and which offsets a batch covers.

A checkpoint belongs to one *generation* of the stream. One that is lost, damaged, or does not fit what the tables say
is left behind and a new generation begins at the tables' own ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from iot_platform.ingest.position import QUARANTINE, READINGS, Ends, Position
from iot_platform.settings import Settings


@dataclass(frozen=True)
class Checkpoint:
    """One generation's checkpoint folder."""

    path: Path

    @classmethod
    def of(cls, settings: Settings, generation: int) -> Checkpoint:
        return cls(settings.checkpoints / "bronze" / f"g{generation}")

    @property
    def is_absent(self) -> bool:
        return not self.path.exists() or not any(self.path.iterdir())

    def last(self, log: str) -> int:
        """The newest batch in ``offsets`` (planned) or ``commits`` (done); -1 when there is none."""
        folder = self.path / log
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        return max((int(name) for name in names if name.isdigit()), default=-1)

    def planned(self, batch: int) -> Ends | None:
        """The ends that a batch was planned up to; None when its file is missing or torn."""
        return _offsets(self.path / "offsets" / str(batch), 2)

    def range_of(self, batch: int) -> dict[str, dict[int, tuple[int, int]]]:
        """The offsets ``[from, until)`` that a planned batch covers, per topic and partition."""
        until = self.planned(batch) or {}
        start = (self.planned(batch - 1) if batch else _offsets(self.path / "sources" / "0" / "0", 1)) or {}
        return {
            topic: {partition: (start.get(topic, {}).get(partition, 0), end) for partition, end in ends.items()}
            for topic, ends in until.items()
        }

    def why_unusable(self, position: Position, topics: set[str]) -> str:
        """Why the stream cannot go on with this checkpoint; empty when it can."""
        try:
            return self._judge(position, topics)
        except OSError as error:
            return f"it cannot be read ({error.strerror})"

    def _judge(self, position: Position, topics: set[str]) -> str:
        batches = [position.last_batch(table) for table in (READINGS, QUARANTINE)]
        if self.is_absent:
            return "it is gone" if max(batches) >= 0 else ""
        planned, done = self.last("offsets"), self.last("commits")
        if planned < 0 and max(batches) < 0:
            return "" if _is_metadata(self.path / "metadata") else "its metadata is damaged"
        if not _is_metadata(self.path / "metadata"):
            return "its metadata is damaged"
        ends = self.planned(planned)
        if ends is None or (planned > 0 and done >= 0 and not _is_commit(self.path / "commits" / str(done))):
            return "its newest log entry is damaged"
        if not all(done <= batch <= planned for batch in batches):
            return "it does not fit the tables"
        return "it reads topics that are no longer declared" if not ends.keys() <= topics else ""


def _offsets(file: Path, header_lines: int) -> Ends | None:
    """Spark's log of Kafka offsets: a version line, in the batch log a line of settings, then JSON."""
    try:
        text = file.read_text(encoding="utf-8").lstrip("\0")
        parsed = json.loads(text.splitlines()[header_lines])
        return {topic: {int(p): int(end) for p, end in ends.items()} for topic, ends in parsed.items()}
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _is_metadata(file: Path) -> bool:
    try:
        return "id" in json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _is_commit(file: Path) -> bool:
    try:
        return file.read_text(encoding="utf-8").startswith("v")
    except (OSError, ValueError):
        return False
