"""Applies the bugs one by one to a copy of the project and runs the tests that must notice: each has to turn red.

The copy uses this virtual environment and its own sources. Its tests are green before the first bug: else red says nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iot_platform.settings import PROJECT_ROOT
from iot_platform_tests.mutations.bugs import BUGS, Bug, Change

LEFT_OUT = shutil.ignore_patterns("__pycache__", "target", "logs", "*.duckdb")
COPIED = ("iot_platform", "iot_platform_tests", "dbt_project", "pyproject.toml", "dagster.yaml")
RED = 1  # what pytest says when tests failed; anything else is no verdict: it found none, or could not run them
PATIENCE_SECONDS = 600


class Moved(Exception):
    """A text that a bug changes does not stand in the source just once any more: the bug is to be written anew."""


@dataclass(frozen=True)
class Verdict:
    """What became of a bug: the tests that failed, those that did not notice it, and all that pytest said."""

    bug: Bug
    failed: tuple[str, ...]
    passed: tuple[str, ...]
    said: str

    @property
    def is_caught(self) -> bool:
        """Whether every test that is named for the bug failed, and each of its cases: one that cannot fail holds nothing."""
        return not self.passed and all(
            any(name == test or name.startswith(f"{test}[") for name in self.failed) for test in self.bug.tests
        )


def applied(source: str, change: Change) -> str:
    """The source with the change in it. Raises ``Moved``."""
    if source.count(change.old) != 1:
        raise Moved(f"{change.path}: {source.count(change.old)} times, not once: {change.old.strip()[:100]}")
    return source.replace(change.old, change.new)


@contextmanager
def with_bug(root: Path, bug: Bug) -> Iterator[None]:
    """The project at ``root`` has the bug for the time of the block."""
    before = {path: (root / path).read_text(encoding="utf-8") for path in {change.path for change in bug.changes}}
    after = dict(before)
    for change in bug.changes:
        after[change.path] = applied(after[change.path], change)
    try:
        for path, text in after.items():
            (root / path).write_text(text, encoding="utf-8")
        yield
    finally:
        for path, text in before.items():
            (root / path).write_text(text, encoding="utf-8")


def copied(folder: Path) -> Path:
    """A copy of the project's sources; its root."""
    for name in COPIED:
        source = PROJECT_ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=LEFT_OUT)
        else:
            shutil.copy2(source, folder / name)
    return folder


def run_tests(root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code and what it said, on the sources at ``root``."""
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-rfp", "--tb=line", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    return done.returncode, done.stdout + done.stderr


def check(root: Path, bugs: Sequence[Bug] = BUGS) -> Iterator[Verdict]:
    """A verdict for each bug. Raises ``RuntimeError`` when the tests are not green without one, or cannot be run."""
    code, said = run_tests(root, [test for bug in bugs for test in bug.tests])
    if code:
        raise RuntimeError(f"the tests fail without any bug\n{said}")
    for bug in bugs:
        with with_bug(root, bug):
            code, said = run_tests(root, bug.tests)
        if code not in (0, RED):
            raise RuntimeError(f"{bug.name}: pytest could not run the tests (exit code {code})\n{said}")
        yield Verdict(bug, told(said, "FAILED"), told(said, "PASSED"), said)


def told(said: str, outcome: str) -> tuple[str, ...]:
    """The tests (node ids) of which pytest's summary says this."""
    return tuple(line.split()[1] for line in said.splitlines() if line.startswith(f"{outcome} "))
