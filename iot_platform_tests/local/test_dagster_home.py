"""``DAGSTER_HOME`` follows ``IOT_HOME``, in ``.env`` and on disk."""

from pathlib import Path

import pytest

from iot_platform.errors import PlatformError
from iot_platform.local import dagster_home
from iot_platform.local.dagster_home import main, prepare_dagster_home, write_env_file
from iot_platform_tests.conftest import MakeSettings


def test_the_projects_configuration_is_linked_and_a_users_own_stays(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "dagster.yaml"
    monkeypatch.setattr(dagster_home, "CONFIGURATION", configuration)
    settings = make_settings()
    folder = prepare_dagster_home(settings)
    assert folder == (settings.home / "dagster").resolve() and not list(folder.iterdir())
    configuration.write_text("telemetry: {enabled: false}\n")
    for _ in range(2):
        prepare_dagster_home(settings)
        assert (folder / "dagster.yaml").readlink() == configuration
    moved = tmp_path / "moved" / "dagster.yaml"
    moved.parent.mkdir()
    configuration.rename(moved)
    monkeypatch.setattr(dagster_home, "CONFIGURATION", moved)
    prepare_dagster_home(settings)  # the clone was moved: the old link leads nowhere
    assert (folder / "dagster.yaml").readlink() == moved
    (folder / "dagster.yaml").unlink()
    (folder / "dagster.yaml").write_text("mine")
    prepare_dagster_home(settings)
    assert (folder / "dagster.yaml").read_text() == "mine"
    assert [file.name for file in folder.iterdir()] == ["dagster.yaml"]


def test_the_env_file_keeps_its_other_lines(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_env_file(path, Path("/one"))
    path.write_text("IOT_ENGINE=spark\n" + path.read_text() + "# mine\n")
    for _ in range(2):
        write_env_file(path, Path("/two"))
        assert path.read_text() == "IOT_ENGINE=spark\n# mine\nDAGSTER_HOME=/two\n"
    with pytest.raises(PlatformError, match="cannot be written: Is a directory"):
        write_env_file(tmp_path, Path("/two"))


def test_the_command_writes_the_home_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IOT_HOME", str(tmp_path / "home"))
    assert main(["--env-file", str(tmp_path / ".env")]) == 0
    assert (tmp_path / ".env").read_text() == f"DAGSTER_HOME={tmp_path}/home/dagster\n"
    assert main([]) == 2
    assert "wrong use" in capsys.readouterr().err
