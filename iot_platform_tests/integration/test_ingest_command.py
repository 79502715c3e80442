"""``iot ingest`` as people and supervisors run it: once, and continuously until SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import typer
from typer.testing import CliRunner

from iot_platform.cli.ingest import ingest
from iot_platform.errors import ServiceError
from iot_platform.ingest import drain, holder
from iot_platform.ingest.position import READINGS, read_position
from iot_platform.local.process import wait_until
from iot_platform.topics import create_topics
from iot_platform_tests.integration.stream import Stream, now_us, readings_at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from iot_platform_tests.conftest import Broker, MakeSettings

pytestmark = pytest.mark.integration
CONTINUOUS = "import typer; from iot_platform.cli.ingest import ingest; typer.run(ingest)"
PATIENCE_SECONDS = 180


@pytest.fixture
def stream(kafka: Broker, make_settings: MakeSettings, topics_file: Path) -> Stream:
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    create_topics(settings)
    return Stream(settings)


def environment(stream: Stream) -> dict[str, str]:
    return {
        "IOT_HOME": str(stream.settings.home),
        "IOT_KAFKA_BOOTSTRAP": stream.settings.kafka_bootstrap,
        "IOT_TOPICS_FILE": str(stream.settings.topics_file),
    }


def test_a_drain_says_what_it_landed(stream: Stream, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(stream).items():
        monkeypatch.setenv(name, value)
    stream.send([*readings_at(now_us(), now_us()), b"bad"])
    app = typer.Typer()
    app.command()(ingest)
    told = CliRunner().invoke(app, [])
    assert told.exit_code == 0, told.output
    assert "messages read: 3" in told.stdout
    assert "messages quarantined: 1" in told.stdout
    again = CliRunner().invoke(app, ["--json"])
    found = json.loads(again.stdout)
    assert (found["batches"], found["messages"], found["rows_by_date"], found["offsets"]) == (0, 0, {}, {})


@contextmanager
def continuous(stream: Stream) -> Iterator[subprocess.Popen[str]]:
    """A continuous ingest in a process of its own, ended at the end whatever happened."""
    process = subprocess.Popen(
        [sys.executable, "-c", CONTINUOUS, "--continuous", "--json"],
        env=os.environ | environment(stream),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.communicate()


def test_a_continuous_ingest_lands_what_comes_and_ends_in_order(stream: Stream) -> None:
    stream.send(readings_at(now_us()))
    with continuous(stream) as process:
        _wait_for(stream, process, 1)
        stream.send([b"bad", *readings_at(now_us())])
        _wait_for(stream, process, 3)
        found = holder(stream.settings)
        assert found is not None
        assert found.mode == "continuous"
        assert [worker.pid for worker in psutil.Process(process.pid).children()] == [found.pid]
        with pytest.raises(ServiceError, match="already runs"):
            drain(stream.settings)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, stderr
    assert wait_until(lambda: not any(child.is_running() for child in children), 30)
    told = json.loads(stdout)
    assert (told["messages"], told["readings"], told["quarantined"]) == (3, 2, 1)
    assert stderr.splitlines()[0] == "ingesting"
    assert not [line for line in stderr.splitlines()[1:] if not line.startswith("batch ")], stderr
    assert stream.consumed() == [0, 1, 2]
    assert holder(stream.settings) is None


def _wait_for(stream: Stream, process: subprocess.Popen[str], messages: int) -> None:
    def landed() -> bool:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        ends = read_position(stream.lake).tables[READINGS].ends
        return ends.get(stream.topic("sensor_reading"), {}).get(0, 0) >= messages

    assert wait_until(landed, PATIENCE_SECONDS)
