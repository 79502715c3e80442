"""What was injected, and where Kafka put it: the truth that tests and people compare the platform's findings with.

One JSON lines file a simulation under ``$IOT_HOME/truth/``. A block of lines a window: one line a message in which something
was injected, then one ``summary`` line with the counts of everything delivered. Only acknowledged messages stand here.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from iot_platform.contracts.timestamps import render
from iot_platform.errors import InputError, PlatformError
from iot_platform.local.process import make_folder
from iot_platform.simulator.messages import Made
from iot_platform.simulator.plan import Kind, Plan
from iot_platform.simulator.producer import Delivered
from iot_platform.simulator.spool import open_alone

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Injected:
    """One message with something injected; ``kind``: ``anomaly, duplicate, late, out_of_range, null`` or ``malformed``.

    ``reason``: the quarantine reason of a malformed one. ``metric``: the one metric that a spike, a null or a value out of
    range is in; empty where the whole message is meant. ``event_time``: ISO 8601, UTC. ``lateness_seconds``: arrival less
    event time.
    """

    window: str
    kind: str
    reason: str
    contract: str
    topic: str
    partition: int
    offset: int
    event_id: str
    device_id: str
    metric: str
    value: float | None
    event_time: str
    lateness_seconds: float


@dataclass(frozen=True)
class Summary:
    """Everything delivered in a window, injected or not, by contract and event date (UTC)."""

    window: str
    messages: Counts = field(default_factory=dict)  # well-formed ones
    readings: Counts = field(default_factory=dict)  # what they carry: rows of bronze/readings
    malformed: dict[str, int] = field(default_factory=dict)  # by contract: rows of bronze/quarantine


@dataclass(frozen=True)
class Truth:
    """A truth file, read."""

    injected: tuple[Injected, ...]
    summaries: tuple[Summary, ...]

    def of(self, kind: str) -> list[Injected]:
        return [line for line in self.injected if line.kind == kind]

    @property
    def messages(self) -> Counts:
        """Well-formed messages delivered, duplicates included: contract -> event date -> count."""
        return _added(summary.messages for summary in self.summaries)

    @property
    def readings(self) -> Counts:
        """Readings they carry: contract -> event date -> rows of ``bronze/readings``."""
        return _added(summary.readings for summary in self.summaries)

    @property
    def malformed(self) -> dict[str, int]:
        """Malformed messages delivered: contract -> rows of ``bronze/quarantine``."""
        total: Counter[str] = Counter()
        for summary in self.summaries:
            total.update(summary.malformed)
        return dict(total)


def load_truth(path: Path) -> Truth:
    """Read a truth file; ``InputError`` when it is none."""
    injected: list[Injected] = []
    summaries: list[Summary] = []
    try:
        with path.open(encoding="utf-8") as file:
            for text in file:
                line = json.loads(text)
                if line["kind"] == "summary":
                    summaries.append(Summary(line["window"], line["messages"], line["readings"], line["malformed"]))
                else:
                    injected.append(Injected(**line))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no truth file: {error}", "Give a file that `iot simulate` wrote") from None
    return Truth(tuple(injected), tuple(summaries))


class TruthBlock:
    """Collects one window's truth while acknowledgements come in."""

    def __init__(self, window: str, contract: str) -> None:
        self.window = window
        self.contract = contract
        self.lines: list[Injected] = []
        self._messages: Counter[str] = Counter()
        self._readings: Counter[str] = Counter()
        self._malformed = 0

    @property
    def delivered(self) -> int:
        """Messages counted here, malformed ones included."""
        return sum(self._messages.values()) + self._malformed

    def add(self, plan: Plan, made: Made, where: Delivered) -> None:
        """Count a delivered message, and note it when something was injected."""
        row = made.row
        kind = Kind(int(plan.kind[row]))
        if kind is Kind.MALFORMED:
            self._malformed += 1
        else:
            day = _date(int(plan.time_us[row]))
            self._messages[day] += 1
            self._readings[day] += len(made.readings)
        if kind is not Kind.REGULAR:
            self.lines.append(self._line(plan, made, where, kind))

    def _line(self, plan: Plan, made: Made, where: Delivered, kind: Kind) -> Injected:
        row = made.row
        time_us = int(plan.time_us[row])
        one = kind in {Kind.ANOMALY, Kind.NULL, Kind.OUT_OF_RANGE}
        reading = made.readings[int(plan.detail[row]) if one else 0] if made.readings else None
        return Injected(
            window=self.window,
            kind=kind.label,
            reason=made.reason,
            contract=self.contract,
            topic=where.topic,
            partition=where.partition,
            offset=where.offset,
            event_id=reading.event_id if reading else "",
            device_id=made.key.decode(),
            metric=reading.metric if reading and one else "",
            value=reading.value if reading and one else None,
            event_time=str(render(time_us)),
            lateness_seconds=round((int(plan.arrival_us[row]) - time_us) / 1e6, 3),
        )

    def text(self) -> str:
        """The block as JSON lines, in the order of partition and offset."""
        ordered = sorted(self.lines, key=lambda line: (line.topic, line.partition, line.offset))
        summary = Summary(
            self.window,
            {self.contract: dict(sorted(self._messages.items()))},
            {self.contract: dict(sorted(self._readings.items()))},
            {self.contract: self._malformed},
        )
        lines = [asdict(line) for line in ordered] + [{"kind": "summary", **asdict(summary)}]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


class TruthFile:
    """The file of one simulation: blocks are appended; a window that is told again replaces what it said before."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, block: TruthBlock, *, again: bool = False) -> None:
        """Append the block; ``again``: something of this window may stand here already."""
        make_folder(self.path.parent)
        try:
            if again:
                self.drop(block.window)
            # Alone: who erases a device puts another file in its place.
            with os.fdopen(open_alone(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", encoding="utf-8") as file:
                file.write(block.text())
        except OSError as error:
            raise PlatformError(f"{self.path} cannot be written: {error.strerror}", "Free space there") from None

    def drop(self, prefix: str) -> None:
        """Take out the lines of windows whose names begin so, and a last line that a crash tore."""
        if not self.path.exists():
            return
        with (
            self.path.open(encoding="utf-8") as old,
            tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".part", delete=False, encoding="utf-8") as new,
        ):
            new.writelines(line for line in old if line.endswith("\n") and not json.loads(line)["window"].startswith(prefix))
        Path(new.name).replace(self.path)


def _date(time_us: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + time_us // 86_400_000_000).isoformat()


def _added(parts: Iterable[Counts]) -> Counts:
    total: dict[str, Counter[str]] = {}
    for part in parts:
        for contract, counts in part.items():
            total.setdefault(contract, Counter()).update(counts)
    return {contract: dict(sorted(counts.items())) for contract, counts in total.items()}
