"""The fault table: what each test of a fault did to the system and what it found, printed at the end of every test run.

A test says it by the fixture ``fault_record``; the row travels with the test's report, so that it arrives from every worker
process. With ``IOT_FAULT_TABLE=<file>`` the table is also written there, as markdown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

PROPERTY = "fault"
HEADER = ("fault", "injections", "messages", "lost", "duplicated", "recovery s", "seed", "test")


@dataclass(frozen=True)
class Row:
    """One line. ``fault``: number in the matrix and name; ``recovery_seconds``: the longest, from fault to all in order.

    ``messages`` is what went through the system meanwhile (rows, where a test has no messages). ``lost`` and ``duplicated``
    were counted by the test, in the tables; None where it counted none: a zero that nobody counted is not said.
    """

    fault: str
    injections: int
    messages: int
    lost: int | None
    duplicated: int | None
    recovery_seconds: float | None = None
    seed: int | None = None
    test: str = ""

    def cells(self) -> tuple[str, ...]:
        recovery = "" if self.recovery_seconds is None else f"{self.recovery_seconds:.1f}"
        seed = "" if self.seed is None else str(self.seed)
        figures = (self.injections, self.messages, self.lost, self.duplicated)
        counts = ("-" if number is None else f"{number:,}" for number in figures)
        return (self.fault, *counts, recovery, seed, self.test)

    @property
    def order(self) -> tuple[int, str, str]:
        digits = "".join(letter if letter.isdigit() else " " for letter in self.fault).split()
        return (int(digits[0]) if digits else 99, self.fault, self.test)


FaultRecord = Callable[..., None]


@pytest.fixture
def fault_record(request: pytest.FixtureRequest) -> FaultRecord:
    """Adds a row: ``fault_record(fault="3 zombie", injections=1, messages=1000, lost=0, duplicated=0)``; see ``Row``."""

    def record(**said: Any) -> None:
        row = Row(**({"test": request.node.name} | said))
        request.node.user_properties.append((PROPERTY, asdict(row)))

    return record


def rows_of(reports: Iterable[Any]) -> list[Row]:
    """The rows that came with these reports, each test's once, by number of the fault."""
    found = (
        Row(**value)
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    )
    return sorted(found, key=lambda row: row.order)


def as_markdown(rows: Iterable[Row]) -> str:
    lines = [HEADER, tuple("---" for _ in HEADER), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def as_columns(rows: Iterable[Row]) -> list[str]:
    """The table for a terminal: the first column to the left, counts to the right, the test's name last."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER) - 1)]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(line[at].rjust(widths[at]) for at in range(1, len(widths))), line[-1]]
        )
        for line in lines
    ]  # fmt: skip


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print the table before pytest's own closing line; nothing when no test of a fault ran."""
    rows = rows_of(report for reports in terminalreporter.stats.values() for report in reports)
    if not rows:
        return
    terminalreporter.section("faults", sep="=")
    for line in as_columns(rows):
        terminalreporter.write_line(line)
    if file := os.environ.get("IOT_FAULT_TABLE"):
        Path(file).write_text(as_markdown(rows), encoding="utf-8")
