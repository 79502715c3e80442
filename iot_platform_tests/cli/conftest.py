"""Runs `iot` as its entry point does, in this process, with an ``IOT_HOME`` of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from iot_platform.cli import main
from iot_platform.settings import Settings


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Iot = Callable[..., Ran]


@pytest.fixture
def iot(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iot:
    """``iot("query", "select 1")``."""

    def run(*arguments: str, **environment: str) -> Ran:
        monkeypatch.setenv("IOT_HOME", str(settings.home))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["iot", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run
