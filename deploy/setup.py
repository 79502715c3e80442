"""Make a clone ready to run: virtual environment, locked packages, jars, ``.env``. For ``make``; needs only Python 3.11+.

Each step does only what is missing, so an interrupted set-up is simply run again. The stamp that lets later runs skip
all of it is written last, and holds what the environment was made from.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / ".set-up-from"
# There while packages are being installed: an environment that still has it was interrupted and may hold half a package.
UNFINISHED = VENV / ".unfinished"
LOG = VENV / "set-up.log"
MADE_FROM = (LOCK, ROOT / "pyproject.toml", ROOT / "iot_platform" / "local" / "jars.lock", Path(__file__))
STEPS = 4
HEARTBEAT_SECONDS = 10
# pip's setting -> uv's variable and what separates several values there; uv does not read pip's configuration.
PIP_TO_UV = {
    "index-url": ("UV_DEFAULT_INDEX", ""),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", ""),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", ""),
    "proxy": ("ALL_PROXY", ""),
    "timeout": ("UV_HTTP_TIMEOUT", ""),
    "default-timeout": ("UV_HTTP_TIMEOUT", ""),
}


class SetupError(Exception):
    """One line: what failed and what to do."""


class Step:
    """One line of progress: what runs now, how long it has taken, and the newest thing that it said."""

    def __init__(self, number: int, title: str) -> None:
        self.title = f"[{number}/{STEPS}] {title}"
        self.started = time.monotonic()
        self.is_terminal = sys.stdout.isatty()
        self.last_heartbeat = self.started
        self.detail = ""
        self._show()

    def _show(self) -> None:
        if self.is_terminal:
            width = shutil.get_terminal_size().columns - 1
            text = f"{self.title} … {self._seconds()} s  {self.detail}"[:width]
            print(f"\r\033[K{text}", end="", flush=True)

    def _seconds(self) -> int:
        return round(time.monotonic() - self.started)

    def tick(self, detail: str = "") -> None:
        self.detail = detail or self.detail
        self._show()
        if not self.is_terminal and time.monotonic() - self.last_heartbeat >= HEARTBEAT_SECONDS:
            self.last_heartbeat = time.monotonic()
            print(f"      … {self._seconds()} s  {self.detail}", flush=True)

    def done(self, note: str = "") -> None:
        start = "\r\033[K" if self.is_terminal else ""
        print(f"{start}{self.title}{note}: {self._seconds()} s", flush=True)


def run(command: Iterable[str | Path], step: Step, env: dict[str, str] | None = None) -> str:
    """Run a command with its output into the log and its newest line beside the step; the whole output."""
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    output = []
    try:
        while True:
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                step.tick()
                continue
            if line is None:
                break
            output.append(line)
            step.tick(line.strip())
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        if LOG.parent.is_dir():
            with LOG.open("a", encoding="utf-8") as log:
                log.writelines(output)
    text = "".join(output)
    if process.wait():
        raise SetupError(f"{step.title} failed: {reason(text)}. All of it is in {LOG}; `make setup` tries again")
    return text


def reason(output: str) -> str:
    """The line that says why: the innermost cause that a tool gave, else its error, else its last line."""
    lines = [re.sub(r"^[\s╰─▶├×│]+", "", line).strip() for line in output.splitlines() if line.strip()]
    for start in ("Hash mismatch", "Caused by: Hash mismatch", "Caused by: ", "error: ", "ERROR: "):
        for line in reversed(lines):
            if line.startswith(start):
                return line.removeprefix("Caused by: ").removeprefix("error: ").removeprefix("ERROR: ").rstrip(".:")
    return lines[-1].rstrip(".") if lines else "it said nothing"


def fingerprint() -> str:
    """What an environment is made from: the locks, this program, the Python, and where the clone lies."""
    digest = hashlib.sha256(f"{sys.version}\n{ROOT}\n".encode())
    for path in MADE_FROM:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def make_venv(step: Step) -> None:
    """Make the virtual environment unless a whole one of this Python is there."""
    probe = "import sys, pip; print(sys.version); print(sys.prefix)"
    try:
        found = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, check=False).stdout
    except OSError:
        found = ""
    if UNFINISHED.exists() or found != f"{sys.version}\n{VENV}\n":
        run([sys.executable, "-m", "venv", "--clear", VENV], step)


def locked_requirement(name: str) -> str:
    """The lock's entry of one package, with its hashes."""
    found = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*\n", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise SetupError(f"{LOCK.name} has no {name}; renew it with `make lock`")
    return found.group(0)


def uv_environment(pip_config: str, environment: dict[str, str]) -> dict[str, str]:
    """The environment for uv: as given, and what pip is configured with where uv is not told otherwise.

    ``pip_config`` is what ``pip config list`` prints: ``global.cert='…'`` for files, ``:env:.cert='…'`` for variables,
    which weigh more.
    """
    given = re.findall(r"^([\w:]+)\.([\w-]+)=(.*)$", pip_config, re.MULTILINE)
    result = dict(environment)
    for section in (":env:", "install", "global"):
        for found_section, key, quoted in given:
            if found_section != section or key not in PIP_TO_UV:
                continue
            variable, separator = PIP_TO_UV[key]
            with contextlib.suppress(ValueError, SyntaxError):
                value = str(ast.literal_eval(quoted))
                result.setdefault(variable, separator.join(value.split()) if separator else value)
    return result


def install_packages(step: Step) -> None:
    """Bring the environment to exactly the lock, every file by its hash, and the project itself as editable."""
    UNFINISHED.touch()
    with tempfile.TemporaryDirectory() as folder:
        only_uv = Path(folder) / "uv.txt"
        only_uv.write_text(locked_requirement("uv"), encoding="utf-8")
        pip = [PYTHON, "-m", "pip", "--disable-pip-version-check"]
        run([*pip, "install", "--progress-bar=off", "--no-deps", "--require-hashes", "-r", only_uv], step)
        configured = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False).stdout
    environment = uv_environment(configured, dict(os.environ)) | {"VIRTUAL_ENV": str(VENV)}
    uv = [PYTHON, "-m", "uv", "pip"]
    run([*uv, "sync", "--require-hashes", LOCK], step, environment)
    run([*uv, "install", "--no-deps", "--no-build-isolation", "--editable", ROOT], step, environment)
    UNFINISHED.unlink()


def fetch_jars(step: Step) -> None:
    run([PYTHON, "-m", "iot_platform.local.fetch_jars"], step)


def write_environment(step: Step | None = None) -> None:
    """Write ``.env`` for plain ``dagster dev``; every time, because it follows ``IOT_HOME``."""
    command = [PYTHON, "-m", "iot_platform.local.dagster_home", "--env-file", ROOT / ".env"]
    if step:
        run(command, step)
        return
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(reason(done.stderr))


def main() -> None:
    """Do what is missing, one line a step."""
    made_from = fingerprint()
    if STAMP.exists() and STAMP.read_text(encoding="utf-8") == made_from:
        write_environment()
        print("setup: everything is in place", flush=True)
        return
    started = time.monotonic()
    version = ".".join(str(part) for part in sys.version_info[:3])
    steps: list[tuple[str, Callable[[Step], None]]] = [
        (f"virtual environment .venv, Python {version}", make_venv),
        ("packages, by requirements.lock", install_packages),
        ("jars, by iot_platform/local/jars.lock", fetch_jars),
        (".env for dagster", write_environment),
    ]
    for number, (title, action) in enumerate(steps, start=1):
        step = Step(number, title)
        action(step)
        step.done()
    STAMP.write_text(made_from, encoding="utf-8")
    print(f"setup: done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"\nsetup: {error}. Make room or correct the folder's rights, then run it again", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nsetup was interrupted; `make setup` goes on where it stopped", file=sys.stderr)
        sys.exit(130)
