"""The code is clean by ruff and by basedpyright, as CONTRIBUTING.md asks; `make check` shows the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from iot_platform.settings import PROJECT_ROOT


@pytest.mark.parametrize("command", [["ruff", "check"], ["basedpyright"]], ids=["ruff", "basedpyright"])
def test_the_code_is_clean(command: list[str]) -> None:
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run([tool, *command[1:]], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
