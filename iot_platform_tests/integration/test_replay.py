"""Replay through a real broker: what arrives, what is kept, what is registered, and how wrong use ends."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from typer.testing import CliRunner

from iot_platform.errors import InputError, PlatformError, ServiceError
from iot_platform.local.kafka import running_service
from iot_platform.local.process import free_ports
from iot_platform.settings import Settings
from iot_platform.simulator.replay.run import replay
from iot_platform.topics import create_topics
from iot_platform_tests.conftest import Broker, MakeSettings
from iot_platform_tests.integration.consume import records_of

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MAPPING = """
contract: sensor_reading
files: "*/*.csv*"
columns: {timestamp: time, value: v}
timestamp: {format: epoch_s}
path: "{room}/{metric}.csv"
set: {sensor_id: "{room}/{metric}", sensor_type: "{metric}", location: "{room}"}
metrics: {co2: {unit: ppm, min: 0, max: 10000}, dew: {unit: K}}
devices: {cadence_seconds: 5}
"""
GOOD = "1709294400,21.10\n1709294405,22\n"


@pytest.fixture
def settings(kafka: Broker, make_settings: MakeSettings, topics_file: Path) -> Settings:
    made = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    create_topics(made)
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two rooms with three files, some rows of which are broken."""
    folder = tmp_path / "data"
    for name, rows in (
        ("r1/temperature.csv", GOOD + "oops,1\n"),
        ("r1/co2.csv", GOOD + "1709294410,ha\n1709294415\n1709294420,1,2\n"),
        ("r2/temperature.csv", GOOD),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("time,v\n" + rows)
    return folder


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "rooms.yaml"
    path.write_text(MAPPING)
    return path


def test_every_row_arrives_or_is_kept_with_its_reason(settings: Settings, data: Path, mapping: Path) -> None:
    result = replay(settings, data, mapping, now=NOW)
    assert (result.files, result.rows_read, result.messages_delivered, result.rows_rejected) == (3, 10, 6, 4)
    records = records_of(settings, ["sensor_reading"])
    assert len(records) == 6
    for record in records:
        headers = dict(record.headers)
        message = json.loads(record.value or b"")
        assert record.key == message["sensor_id"].encode()
        assert headers["contract"] == b"sensor_reading" and headers["contract_version"] == b"1"
        assert headers["replayed"] == b"true"
        assert headers["source"] == f"{message['sensor_id']}.csv".encode()
    first = next(json.loads(record.value or b"") for record in records if record.key == b"r1/co2")
    assert first == {
        "timestamp": "2024-03-01T12:00:00Z", "value": 21.1, "sensor_id": "r1/co2", "sensor_type": "co2", "location": "r1",
    }  # fmt: skip
    assert result.rejects_file
    kept = [json.loads(line) for line in result.rejects_file.read_text().splitlines()]
    assert [(line["file"], line["line"], line["reason"], line["row"]) for line in kept] == [
        ("r1/co2.csv", 4, "wrong_type", "1709294410,ha"),
        ("r1/co2.csv", 5, "bad_row", "1709294415"),
        ("r1/co2.csv", 6, "bad_row", "1709294420,1,2"),
        ("r1/temperature.csv", 4, "bad_timestamp", "oops,1"),
    ]


def test_devices_and_metrics_are_declared_and_begin_earlier_later(settings: Settings, data: Path, mapping: Path) -> None:
    replay(settings, data, mapping, now=NOW)
    devices = declared(settings, "devices-replay-rooms.csv")
    assert [line["device_id"] for line in devices] == ["r1/co2", "r1/temperature", "r2/temperature"]
    assert devices[0] == {
        "device_id": "r1/co2", "contract": "sensor_reading", "device_type": "", "site": "r1", "zone": "", "state": "",
        "firmware": "", "cadence_seconds": "5", "installed_at": "2024-03-01T12:00:00.000000Z",
        "retired_at": "2024-03-01T12:00:00.000000Z",
    }  # fmt: skip
    metrics = declared(settings, "metrics-rooms.csv")
    assert [tuple(line.values()) for line in metrics] == [
        ("sensor_reading", "co2", "ppm", "0.0", "10000.0", "rooms.yaml"),
        ("sensor_reading", "dew", "K", "", "", "rooms.yaml"),
    ]
    (data / "r1/co2.csv").write_text("time,v\n1709294300,1\n1709294500,2\n")
    replay(settings, data / "r1" / "co2.csv", mapping, now=NOW)
    devices = declared(settings, "devices-replay-rooms.csv")
    assert len(devices) == 3
    assert devices[0]["installed_at"] == devices[0]["retired_at"] == "2024-03-01T11:58:20.000000Z"
    other = mapping.with_name("other.yaml")
    other.write_text(MAPPING.replace("max: 10000", "max: 5"))
    with pytest.raises(InputError, match=r"metrics.co2: metrics-rooms.csv declares it"):
        replay(settings, data, other, now=NOW)
    (settings.declarations / "metrics-rooms.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="metrics-rooms.csv cannot be read"):
        replay(settings, data, other, now=NOW)


def declared(settings: Settings, name: str) -> list[dict[str, str]]:
    with (settings.declarations / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_rate_is_kept_by_the_clock_and_a_stop_ends_in_order(settings: Settings, data: Path, mapping: Path) -> None:
    mapping.write_text(MAPPING + "rate: 2\n")
    now = [0.0]

    def clock() -> float:
        now[0] += 0.49
        return now[0]

    result = replay(settings, data, mapping, now=NOW, clock=clock)
    assert result.messages_delivered == 6 and 2.5 < result.seconds < 10
    looks = iter([False, False, True])
    stopped = replay(settings, data, mapping, now=NOW, clock=clock, is_stopped=lambda: next(looks, True))
    assert not stopped.complete and stopped.messages_delivered < 6


def test_messages_that_cannot_be_delivered_are_kept(
    kafka: Broker, settings: Settings, data: Path, mapping: Path
) -> None:
    service = running_service(kafka.settings.model_copy(update={"kafka_bootstrap": ""}))
    assert service
    broker = psutil.Process(service.pid)

    def freeze(done: int, total: int | None) -> None:
        broker.suspend()

    try:
        result = replay(settings, data, mapping, now=NOW, on_progress=freeze, delivery_seconds=1)
    finally:
        broker.resume()
    assert result.messages_undelivered == 6 and result.undelivered_file and result.failure
    kept = [json.loads(line) for line in result.undelivered_file.read_text().splitlines()]
    assert len(kept) == 6 and ["replayed", "true"] in kept[0]["headers"]


# The command line.


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `iot replay` in process: exit code, stdout, stderr with the error's line last."""
    from iot_platform.cli.replay import replay as command

    app = typer.Typer()
    app.command()(command)

    def invoke(settings: Settings, *words: Any) -> tuple[int, str, str]:
        monkeypatch.setenv("IOT_HOME", str(settings.home))
        monkeypatch.setenv("IOT_KAFKA_BOOTSTRAP", settings.kafka_bootstrap)
        monkeypatch.setenv("IOT_TOPICS_FILE", str(settings.topics_file))
        result = CliRunner().invoke(app, [str(word) for word in words])
        if isinstance(result.exception, PlatformError):
            return result.exception.exit_code, result.stdout, f"{result.stderr}{result.exception}"
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return invoke


def test_the_closing_lines_and_the_json(settings: Settings, data: Path, mapping: Path, run: Run) -> None:
    code, out, err = run(settings, data, "--mapping", mapping)
    lines = out.splitlines()
    assert code == 0
    assert lines[:4] == ["files: 3", "rows read: 10", "messages delivered: 6", "rows rejected: 4"]
    assert lines[4].startswith("rejects file: ") and Path(lines[4].removeprefix("rejects file: ")).exists()
    assert "rejected r1/co2.csv:4: wrong_type: value is no number: 'ha'" in err
    code, out, _ = run(settings, data / "r2", "--mapping", mapping, "--json")
    assert code == 2 and out == ""  # the mapping's files lie one folder up
    code, out, _ = run(settings, data / "r2" / "temperature.csv", "--mapping", mapping, "--json")
    said = json.loads(out)
    assert code == 0
    assert {name: said[name] for name in ("files", "rows_read", "messages_delivered", "rows_rejected", "rejects_file")} == {
        "files": 1, "rows_read": 2, "messages_delivered": 2, "rows_rejected": 0, "rejects_file": None,
    }  # fmt: skip


def test_many_rejects_are_named_in_part_and_kept_whole(settings: Settings, tmp_path: Path, run: Run) -> None:
    (tmp_path / "a.csv").write_text("t,a,b\n" + "x,1,1\n" * 9 + "2024-01-01,,\n2024-01-02,5,\n")
    wide = tmp_path / "wide.yaml"
    wide.write_text("{contract: generic_reading, timestamp: {columns: t}, melt: {a: a, b: b}, set: {sensor_id: w}}")
    code, out, err = run(settings, tmp_path, "--mapping", wide)
    assert code == 0
    assert "rows without a reading: 1\nfiles: 1\nrows read: 11\nmessages delivered: 1\nrows rejected: 9\n" in out
    assert err.count("rejected a.csv:") == 5 and "4 more rows rejected, see " in err


def test_nothing_deliverable_ends_with_2(settings: Settings, tmp_path: Path, data: Path, mapping: Path, run: Run) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "co2.csv").write_text("time,v\nx,y\n")
    code, out, err = run(settings, tmp_path / "bad" / "co2.csv", "--mapping", mapping)
    assert code == 2 and "rows rejected: 1" in out
    assert "nothing could be delivered: 1 rows read, 1 rejected. Correct the mapping or the data; see " in err
    (tmp_path / "bad" / "co2.csv").write_text("time,v\n")
    code, _, err = run(settings, tmp_path / "bad" / "co2.csv", "--mapping", mapping)
    assert code == 2 and err == "nothing could be delivered: 0 rows read, 0 rejected. Correct the mapping or the data"
    for path, said in ((tmp_path / "no", "no such file"), (tmp_path / "bad" / "co2.csv.gz", "cannot be read")):
        if path.suffix:
            path.write_bytes(b"no gzip")
        code, out, err = run(settings, path, "--mapping", mapping)
        assert (code, out) == (2, "") and said in err and "\n" not in err
    mapping.write_text("contract: nope\ntimestamp: iso\n")
    code, out, err = run(settings, data, "--mapping", mapping)
    assert (code, out) == (2, "") and "rooms.yaml: contract: there is no contract 'nope'" in err and "\n" not in err


def test_no_broker_and_no_topic_end_with_1(
    kafka: Broker, make_settings: MakeSettings, *, topics_file: Path, data: Path, mapping: Path, run: Run
) -> None:
    away = make_settings(kafka_bootstrap=f"127.0.0.1:{free_ports(1)[0]}", topics_file=topics_file)
    code, out, err = run(away, data, "--mapping", mapping)
    assert (code, out) == (1, "") and "does not answer" in err and "\n" not in err
    without = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    code, out, err = run(without, data, "--mapping", mapping)
    assert (code, out) == (1, "") and "has no topic iot.sensor-readings" in err
    assert not without.declarations.exists()
    topics_file.write_text("topics: {device_event: {name: x, partitions: 1, retention_days: 1}}")
    with pytest.raises(InputError, match="has no topic for sensor_reading"):
        replay(without, data, mapping, now=NOW)


def test_undelivered_messages_end_with_1(settings: Settings) -> None:
    from iot_platform.cli.replay import _end, _print
    from iot_platform.simulator.replay.run import ReplayResult

    with pytest.raises(ServiceError, match="3 messages were not delivered"):
        _end(ReplayResult(messages_undelivered=3, failure="timed out", undelivered_file=settings.home / "x"))
    _print(ReplayResult(complete=False))


def test_a_place_that_cannot_be_written_is_one_line(settings: Settings, data: Path, mapping: Path) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "rejects").write_text("in the way")
    with pytest.raises(PlatformError, match="rejects cannot be made"):
        replay(settings, data, mapping, now=NOW + timedelta(days=1))
