"""The set-up program's decisions; the set-up itself runs at the start of every ``make``."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from iot_platform.settings import PROJECT_ROOT


@pytest.fixture(scope="module")
def setup(deploy_program: Callable[[str], ModuleType]) -> ModuleType:
    return deploy_program("setup")


def test_the_installers_own_hashes_come_from_the_lock(setup: ModuleType) -> None:
    lines = setup.locked_requirement("uv").splitlines()
    assert lines[0].startswith("uv==") and lines[0].endswith("\\")
    assert all(line.strip().startswith("--hash=sha256:") for line in lines[1:]) and len(lines) > 2
    with pytest.raises(setup.SetupError, match="renew it with `make lock`"):
        setup.locked_requirement("no-such-package")


def test_uv_learns_what_pip_is_configured_with(setup: ModuleType) -> None:
    configured = "\n".join(
        [
            "global.index-url='http://file/simple'",
            "global.cert='/file.pem'",
            "install.find-links='/one /two'",
            ":env:.index-url='http://variable/simple'",
            ":env:.disable-pip-version-check='1'",
            "global.timeout='90'",
        ]
    )
    environment = setup.uv_environment(configured, {"SSL_CERT_FILE": "/given.pem", "PATH": "/bin"})
    assert environment == {
        "PATH": "/bin",
        "SSL_CERT_FILE": "/given.pem",
        "UV_DEFAULT_INDEX": "http://variable/simple",
        "UV_FIND_LINKS": "/one,/two",
        "UV_HTTP_TIMEOUT": "90",
    }


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", "it said nothing"),
        ("one\ntwo.\n", "two"),
        ("error: Failed to fetch\n  ╰─▶ Caused by: Connection refused\n", "Connection refused"),
        ("error: x\nCaused by: y\n  Hash mismatch for `rich==1`\n  Expected:\n", "Hash mismatch for `rich==1`"),
        ("ERROR: No space left\nsome hint\n", "No space left"),
    ],
)
def test_a_failed_step_is_told_by_its_innermost_cause(setup: ModuleType, output: str, expected: str) -> None:
    assert setup.reason(output) == expected


def test_a_python_that_is_too_old_or_bare_is_told_in_one_line(tmp_path: Path) -> None:
    def find(python: str) -> subprocess.CompletedProcess[str]:
        script = PROJECT_ROOT / "deploy" / "find_python.sh"
        return subprocess.run(
            ["sh", str(script)], env={"PATH": "/usr/bin:/bin", "PYTHON": python}, capture_output=True, text=True, check=False
        )

    old = tmp_path / "old"
    old.write_text('#!/bin/sh\ncase "$2" in *print*) echo 3.9 ;; *) exit 1 ;; esac\n')
    bare = tmp_path / "bare"
    bare.write_text('#!/bin/sh\ncase "$2" in *print*) echo 3.12 ;; *ensurepip*) exit 1 ;; esac\n')
    for script in (old, bare):
        script.chmod(0o755)
    refused = find(f"{old} {bare} {tmp_path}/absent")
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert f"{old} is 3.9;" in refused.stderr and "python3.12-venv" in refused.stderr
    assert find(f"{old} {sys.executable}").stdout.strip() == sys.executable
