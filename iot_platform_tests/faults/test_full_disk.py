"""Row 5: a disk that is full, for tables or checkpoint, stops ingestion in one line; with room again all is there once.

On a small disk of its own. Who may not mount one gets the error from a failpoint, or by a file in the folder's place.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iot_platform.cli import main
from iot_platform.errors import PlatformError
from iot_platform.ingest import drain
from iot_platform.ingest.position import TABLES
from iot_platform.lake import Lake
from iot_platform_tests.faults.oracle import judge
from iot_platform_tests.faults.producer import Producer
from iot_platform_tests.faults.watcher import Watcher

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform.settings import Settings
    from iot_platform_tests.faults.record import FaultRecord

pytestmark = pytest.mark.integration
MountSmallDisk = Callable[[Path], bool]


@contextmanager
def full(folder: Path, left_bytes: int) -> Iterator[None]:
    """The folder's disk has this much room for the time of the block."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    os.truncate(filler, max(0, filler.stat().st_size - left_bytes))
    yield
    filler.unlink()


@contextmanager
def in_the_way(folder: Path) -> Iterator[None]:
    """A file stands where the folder should be for the time of the block."""
    aside = folder.with_name("aside")
    aside.mkdir()
    if folder.exists():
        folder.rename(aside / folder.name)
    folder.write_text("")
    yield
    folder.unlink()
    if (aside / folder.name).exists():
        (aside / folder.name).rename(folder)
    aside.rmdir()


def test_a_full_disk_for_the_tables_is_one_line_and_loses_nothing(
    deployment: Settings, spark: SparkSession, mount_small_disk: MountSmallDisk, seed: int, fault_record: FaultRecord,
    *, arm: Callable[[str], None], command: Callable[[], tuple[int, str]],
) -> None:  # fmt: skip
    lake = deployment.home / "lake"
    is_mounted = mount_small_disk(lake)
    producer = Producer(deployment, seed, rate=0)
    with Watcher(deployment).running():
        producer.send(300)
        producer.finish()
        drain(deployment, spark)
        producer.send(3000)
        producer.finish()
        arm("" if is_mounted else "ingest.after_files=full")
        with full(lake, 24 << 10) if is_mounted else nullcontext():
            code, said = command()
            assert code == 1, said
            assert_one_line(said)
            assert not is_mounted or not unnamed_files(deployment)
        arm("")
        began = time.monotonic()
        drain(deployment, spark)
        seconds = time.monotonic() - began
    verdict = judge(deployment, producer)
    fault_record(fault="5 disk full for the tables", injections=1, recovery_seconds=seconds, seed=seed, **verdict.counts)
    verdict.assert_exact()


@pytest.fixture
def command(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[], tuple[int, str]]:
    """``iot ingest`` in this process, which has a Spark already: its exit code and what it said on stderr."""

    def ingest() -> tuple[int, str]:
        with monkeypatch.context() as patch:
            for name, value in deployment.environment().items():
                patch.setenv(name, value)
            patch.setattr("sys.argv", ["iot", "ingest"])
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 0
        return code, capfd.readouterr().err

    return ingest


def unnamed_files(settings: Settings) -> set[Path]:
    """Data files that no commit names: room that is taken and serves nobody."""
    lake = Lake(settings)
    tables = [lake.snapshot(table) for table in TABLES]
    named = {Path(file.removeprefix("file://")) for table in tables for file in table.files()}
    return {file for table in TABLES for file in Path(lake.path(table)).glob("*/*.parquet")} - named


def assert_one_line(said: str) -> None:
    """The last thing said is what and what to do; no stack trace anywhere."""
    assert "Traceback" not in said
    complaint = " ".join(said[said.rindex("iot: ") :].split())
    assert "cannot write" in complaint, said
    assert "space" in complaint or "full" in complaint, said


def test_a_full_disk_for_the_checkpoint_is_one_line_and_loses_nothing(
    deployment: Settings, spark: SparkSession, mount_small_disk: MountSmallDisk, seed: int, fault_record: FaultRecord
) -> None:
    """Full before the first checkpoint, then full with some room left while one is in use."""
    is_mounted = mount_small_disk(deployment.checkpoints)
    producer = Producer(deployment, seed, rate=0)
    longest = 0.0
    with Watcher(deployment).running():
        for left_bytes in (0, 4 << 10):
            producer.send(300)
            producer.finish()
            with full(deployment.checkpoints, left_bytes) if is_mounted else in_the_way(deployment.checkpoints / "bronze"):
                with pytest.raises(PlatformError) as failed:
                    drain(deployment, spark)
                assert "\n" not in str(failed.value)
                assert "cannot" in str(failed.value)
            began = time.monotonic()
            drain(deployment, spark)
            longest = max(longest, time.monotonic() - began)
    verdict = judge(deployment, producer)
    fault_record(
        fault="5 disk full for the checkpoint", injections=2, recovery_seconds=longest, seed=seed, **verdict.counts
    )
    verdict.assert_exact()
