"""``DAGSTER_HOME`` follows ``IOT_HOME``, in ``.env`` and on disk."""

import os
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from iot_platform.errors import InputError, PlatformError
from iot_platform.local import dagster_home
from iot_platform.local.dagster_home import POSTGRES_URL, main, prepare_dagster_home, write_env_file
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


def test_with_postgresql_the_file_names_the_variable_and_without_it_the_link_is_back(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POSTGRES_URL, "")
    url = "postgresql://me:hidden@db/dagster"
    settings = make_settings(dagster_postgres_url=SecretStr(url))
    placed = prepare_dagster_home(settings) / "dagster.yaml"
    assert os.environ[POSTGRES_URL] == "postgresql+psycopg2://me:hidden@db/dagster"
    for _ in range(2):
        found = yaml.safe_load(placed.read_text())
        assert found["storage"] == {"postgres": {"postgres_url": {"env": POSTGRES_URL}}}
        assert found["run_monitoring"] == yaml.safe_load(dagster_home.CONFIGURATION.read_text())["run_monitoring"]
        assert "hidden" not in placed.read_text()
        prepare_dagster_home(settings)
    monkeypatch.setenv(POSTGRES_URL, "")
    prepare_dagster_home(make_settings())
    assert placed.readlink() == dagster_home.CONFIGURATION
    placed.unlink()
    placed.write_text("mine")
    prepare_dagster_home(settings)
    assert placed.read_text() == "mine"


def test_an_address_that_is_none_and_a_missing_extra_are_one_line(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no address of PostgreSQL") as caught:
        prepare_dagster_home(make_settings(dagster_postgres_url=SecretStr("mysql://me:hidden@db/x")))
    assert "hidden" not in str(caught.value)
    monkeypatch.setattr(dagster_home, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"dagster-postgres is not installed. Install the extra"):
        prepare_dagster_home(make_settings(dagster_postgres_url=SecretStr("postgresql://me@db/x")))
