"""What tests of faults share: a deployment of their own on the session's broker, seeds, a small disk, failpoints."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from iot_platform.failpoints import Armed, parse
from iot_platform.topics import create_topics

if TYPE_CHECKING:
    from iot_platform.settings import Settings
    from iot_platform_tests.conftest import Broker, MakeSettings

DISK_MEGABYTES = 8


@pytest.fixture
def few_partitions(topics_file: Path) -> Path:
    """The topics with two partitions each: enough to have them out of step, and half the time of every batch."""
    content = yaml.safe_load(topics_file.read_text())
    for topic in content["topics"].values():
        topic["partitions"] = 2
    topics_file.write_text(yaml.safe_dump(content))
    return topics_file


@pytest.fixture
def deployment(kafka: Broker, make_settings: MakeSettings, few_partitions: Path) -> Settings:
    """Settings of a deployment with its own empty topics, on the broker of the session."""
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=few_partitions, spark_master="local[2]")
    create_topics(settings)
    return settings


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Another one each time, unless ``--fault-seed`` says which; see ``again``."""
    given = request.config.getoption("--fault-seed")
    chosen = secrets.randbelow(1_000_000) if given is None else given
    print(f"seed {chosen}")
    return chosen


@pytest.fixture
def again(request: pytest.FixtureRequest, seed: int) -> str:
    """How to run this test with this seed once more, for the message of an assertion."""
    return f"Again: .venv/bin/python -m pytest '{request.node.nodeid}' --fault-seed {seed}"


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets failpoints of the sink in this very process, as the variable does in another; an empty text takes them away."""

    def armed(text: str) -> None:
        monkeypatch.setattr("iot_platform.ingest.sink.reach", Armed(parse(text)))

    return armed


@pytest.fixture
def mount_small_disk() -> Iterator[Callable[[Path], bool]]:
    """Mounts a disk of ``DISK_MEGABYTES`` at a folder; False where this user may not mount."""
    mounted: list[Path] = []

    def mount(folder: Path) -> bool:
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() != 0:
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return False
        mounted.append(folder)
        return True

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
