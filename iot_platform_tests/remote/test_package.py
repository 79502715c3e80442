"""What `make package` makes runs where there is nothing else: a bare Python, no clone, no environment."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from iot_platform.lake import Lake
from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform_tests.assets.small_lake import D, SmallLake

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package") / "cluster"
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    made = subprocess.run(
        [sys.executable, PROJECT_ROOT / "deploy" / "package.py", "--out", out, "--python", ours],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "IOT_REMOTE_CODE" in made.stdout
    return out


@pytest.fixture(scope="module")
def container(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's working directory: the archive unpacked, the entry beside it."""
    folder = tmp_path_factory.mktemp("container")
    with tarfile.open(package / "iot_environment.tar.gz") as archive:
        archive.extractall(folder / "environment", filter="data")
    (folder / "iot_remote.py").write_bytes((package / "iot_remote.py").read_bytes())
    return folder


def run(container: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    python = Path(sys.base_prefix) / "bin" / "python3"
    return subprocess.run(
        [python, *arguments], cwd=container, capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "./environment", "IOT_HOME": str(container / "home"), **environment},
    )  # fmt: skip


def test_the_manifest_is_of_the_files(package: Path) -> None:
    manifest = json.loads((package / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in package.iterdir()} - {"manifest.json"}
    for name, said in manifest["files"].items():
        assert said["sha256"] == hashlib.sha256((package / name).read_bytes()).hexdigest()
        assert said["bytes"] == (package / name).stat().st_size
    assert any(name.startswith("org.apache.hadoop:hadoop-aws:") for name in manifest["jars_for_a_spark_without_s3"])


def test_the_archive_holds_no_address_and_nothing_that_the_cluster_has_itself(package: Path) -> None:
    with tarfile.open(package / "iot_environment.tar.gz") as archive:
        names = archive.getnames()
        assert {member.mtime for member in archive.getmembers()} == {0}
    assert not [name for name in names if name.startswith(("pyspark/", "dagster/", "dbt/")) or "__pycache__" in name]
    assert "iot_platform/transforms/silver_readings.sql" in names
    assert not [name for name in names if name.startswith("iot_platform_tests")]


def test_the_program_says_how_it_is_used(container: Path) -> None:
    for entry in (["iot_remote.py"], ["-m", "iot_platform.remote.main"]):
        told = run(container, *entry, "--help")
        assert (told.returncode, told.stderr) == (0, "")
        assert "--dates" in told.stdout and "silver/readings" in told.stdout


def test_a_date_is_made_by_the_archive_alone(container: Path, settings: Settings) -> None:
    lake = Lake(settings)
    SmallLake(lake).day(D, 24)
    told = run(
        container, "iot_remote.py", "--table", "silver/readings", "--dates", D.isoformat(), IOT_LAKE=settings.lake_root
    )
    assert told.returncode == 0, told.stderr
    made = json.loads(told.stdout)["made"]
    assert (made["rows"], made["engine"], made["skipped"]) == (24, "duckdb", False)
    assert lake.snapshot("silver/readings").rows_by_date == {D: 24}
    where = run(container, "-c", "import iot_platform; print(iot_platform.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(container)


def test_wrong_use_and_a_failing_date_have_their_exit_codes(container: Path, settings: Settings) -> None:
    lake = Lake(settings)
    SmallLake(lake).day(D, 24)
    (file,) = lake.snapshot("bronze/readings").files([D])
    Path(file).unlink()
    arguments = ["iot_remote.py", "--table", "silver/readings", "--dates"]
    failed = run(container, *arguments, D.isoformat(), IOT_LAKE=settings.lake_root)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["failed"]["kind"] == "LakeError"
    wrong = run(container, *arguments, "yesterday", IOT_LAKE=settings.lake_root)
    assert wrong.returncode == 2
    assert wrong.stderr == "✗ --dates: 'yesterday' is no date. Write 2026-03-10 or 2026-03-10..2026-03-12.\n"
