"""The fault table: rows arrive from every process, in the matrix' order, and pytest's closing line stays last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iot_platform.settings import PROJECT_ROOT
from iot_platform_tests.faults.record import HEADER, Row, as_columns, as_markdown

SUITE = """
import pytest
from iot_platform_tests.faults.record import fault_record as fault_record

def test_the_last(fault_record):
    fault_record(fault="12 gone", injections=1, messages=1000, lost=7, duplicated=None, recovery_seconds=1.25)

def test_the_first(fault_record):
    fault_record(fault="2 kills", injections=20, messages=12, lost=0, duplicated=1, seed=5)

def test_without_a_row():
    assert 1
"""
PLUGIN = ("-p", "iot_platform_tests.faults.record", "-p", "no:cacheprovider", "-p", "no:cov")


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_the_table_is_printed_before_the_closing_line_and_written_where_asked(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), *PLUGIN, *workers, str(tmp_path)],
        cwd=PROJECT_ROOT, env=os.environ | {"IOT_FAULT_TABLE": str(tmp_path / "table.md")},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    lines = told.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("fault "))
    assert [line.split()[0] for line in lines[at + 1 : at + 3]] == ["2", "12"], told.stdout
    assert lines[-1].startswith("3 passed")
    written = (tmp_path / "table.md").read_text().splitlines()
    assert written[0] == f"| {' | '.join(HEADER)} |"
    assert written[2:] == [
        "| 2 kills | 20 | 12 | 0 | 1 |  | 5 | test_the_first |",
        "| 12 gone | 1 | 1,000 | 7 | - | 1.2 |  | test_the_last |",
    ]


def test_a_row_without_counts_is_refused() -> None:
    """What nobody counted is said as such by its test, and never shown as a zero."""
    with pytest.raises(TypeError, match="lost"):
        Row(fault="1 a", injections=1, messages=10)  # pyright: ignore[reportCallIssue]


def test_counts_stand_under_each_other() -> None:
    lines = as_columns([Row("1 a", 1, 10, 0, 0, test="x"), Row("2 longer", 100, 1_000_000, 0, 0, test="y")])
    assert {line.rfind("  ") for line in lines} == {lines[0].rfind("  ")}
    assert as_markdown([]).count("\n") == 2
