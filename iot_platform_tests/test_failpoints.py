"""Failpoints: read once, named, and nothing at all where none was set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iot_platform.errors import InputError
from iot_platform.failpoints import Armed, Failpoint, parse, reach
from iot_platform.settings import PROJECT_ROOT


def run(armed: str, *names: str) -> subprocess.CompletedProcess[str]:
    code = f"from iot_platform.failpoints import reach\nfor name in {names!r}: reach(name); print(name, flush=True)"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, env=os.environ | {"IOT_FAILPOINT": armed},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_process_is_killed_at_the_passing_that_was_named_and_at_no_other() -> None:
    done = run("b=kill@2", "a", "b", "c", "b", "d")
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, ["a", "b", "c"])


def test_without_the_variable_a_place_does_nothing() -> None:
    assert run("", "a", "b").stdout.split() == ["a", "b"]
    reach("anything")


def test_a_full_disk_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No space left"):
        Armed(parse("a=full"))("a")


def test_a_held_place_says_that_it_is_reached_and_goes_on_when_let(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    Armed(parse(f"a=hold:{gate}"))("a")
    assert (tmp_path / "gate.reached").exists()


def test_several_are_told_by_commas() -> None:
    assert parse("a=kill, b=stop@3") == {"a": Failpoint("a", "kill"), "b": Failpoint("b", "stop", 3)}


@pytest.mark.parametrize("text", ["a", "a=", "=kill", "a=explode", "a=kill@x", "a=hold"])
def test_another_form_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="IOT_FAILPOINT"):
        parse(text)
