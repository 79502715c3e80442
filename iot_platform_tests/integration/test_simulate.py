"""The simulator through a real broker: what it says it sent is what Kafka holds, whatever interrupts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from typer.testing import CliRunner

from iot_platform.contracts.parse import ParseRules, Refusal, parse_record
from iot_platform.errors import InputError, PlatformError, ServiceError
from iot_platform.local.kafka import running_service
from iot_platform.local.process import free_ports, wait_until
from iot_platform.settings import Settings
from iot_platform.simulator.options import FleetOptions, History, Live, SimulationOptions
from iot_platform.simulator.producer import MessageProducer
from iot_platform.simulator.simulation import simulate
from iot_platform.simulator.spool import Outgoing
from iot_platform.simulator.truth import Truth, load_truth
from iot_platform.topics import create_topics, load_topics
from iot_platform_tests.conftest import Broker, MakeSettings
from iot_platform_tests.integration.consume import records_of

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
FLEET = FleetOptions(devices=4, cadence_seconds=300, malformed_rate=0.02, late_rate=0.03)
SMALL = replace(FLEET, contracts=("sensor_reading", "device_event"))
HISTORY = SimulationOptions(History(2, MIDNIGHT), SMALL)


@pytest.fixture
def settings(kafka: Broker, make_settings: MakeSettings, topics_file: Path) -> Settings:
    made = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    create_topics(made)
    return made


def check_truth(settings: Settings, truth: Truth, contracts: tuple[str, ...]) -> Counter[str]:
    """Everything that the truth says must be in Kafka, and what is there beyond it is nothing special. Counts by kind."""
    topics = {topic.name: contract for contract, topic in load_topics(settings).items()}
    by_place = {(line.topic, line.partition, line.offset): line for line in truth.injected}
    assert len(by_place) == len(truth.injected)
    kinds: Counter[str] = Counter()
    newest: dict[tuple[str, int], int] = {}
    seen: set[str] = set()
    messages: dict[str, Counter[str]] = {}
    readings: dict[str, Counter[str]] = {}
    malformed: Counter[str] = Counter()
    for record in records_of(settings, contracts):
        line = by_place.pop((record.topic, record.partition, record.offset), None)
        kind = line.kind if line else "regular"
        kinds[kind] += 1
        parsed = parse_record(record, ParseRules())
        contract = topics[record.topic]
        if isinstance(parsed, Refusal):
            assert line and line.reason == parsed.reason
            malformed[contract] += 1
            continue
        event = parsed[0]
        if line:
            assert line.event_id == event.event_id and line.device_id == event.device_id == (record.key or b"").decode()
        assert (event.event_id in seen) == (kind == "duplicate")
        seen.add(event.event_id)
        place = (record.topic, record.partition)
        time = min(event.event_time, record.timestamp_us)
        assert (newest.get(place, 0) - event.event_time > 600_000_000) == (kind == "late")
        newest[place] = max(newest.get(place, 0), time)
        day = datetime.fromtimestamp(event.event_time // 1_000_000, UTC).date().isoformat()
        messages.setdefault(contract, Counter())[day] += 1
        readings.setdefault(contract, Counter())[day] += len(parsed)
    assert by_place == {}
    assert truth.messages == messages and truth.readings == readings
    assert {name: count for name, count in truth.malformed.items() if count} == malformed
    return kinds


def test_what_the_truth_says_is_what_kafka_holds_and_a_second_run_adds_nothing(settings: Settings) -> None:
    options = SimulationOptions(History(2, MIDNIGHT - timedelta(hours=9)), FLEET)
    shown: list[tuple[int, int | None]] = []
    result = simulate(settings, options, now=NOW, on_progress=lambda done, total: shown.append((done, total)))
    assert result.complete and result.delivered == sum(result.messages.values())
    assert shown[-1][0] == result.delivered and shown[-1][1] == pytest.approx(result.delivered, rel=0.1)
    kinds = check_truth(settings, load_truth(result.truth), FLEET.contracts)
    assert kinds == result.injected | {"regular": result.delivered - sum(result.injected.values())}
    again = simulate(settings, options, now=NOW)
    assert (again.delivered, again.already_sent, again.injected) == (0, result.delivered, {})
    assert again.truth == result.truth
    # The rest of the last date is added to what is there, in the same truth file.
    more = simulate(settings, SimulationOptions(History(2, MIDNIGHT), FLEET), now=NOW)
    assert more.delivered > 0 and more.already_sent == result.delivered
    assert check_truth(settings, load_truth(more.truth), FLEET.contracts).total() == result.delivered + more.delivered
    registry = (settings.declarations / "devices-simulator.csv").read_text().splitlines()
    assert len(registry) == 1 + 4 * 4  # those that are silent too
    assert f"{MIDNIGHT - timedelta(days=2):%Y-%m-%d}T00:00:00" in registry[1]


def test_an_interrupted_history_goes_on_where_it_stopped(settings: Settings) -> None:
    budgeted = simulate(settings, replace(HISTORY, max_events=700), now=NOW)
    assert budgeted.delivered == 700 and not budgeted.complete
    check_truth(settings, load_truth(budgeted.truth), SMALL.contracts)
    polls = iter(range(10_000))
    stopped = simulate(settings, HISTORY, now=NOW, is_stopped=lambda: next(polls) > 400)
    assert not stopped.complete and 0 < stopped.delivered < 450
    rest = simulate(settings, HISTORY, now=NOW)
    assert rest.complete
    kinds = check_truth(settings, load_truth(rest.truth), SMALL.contracts)
    assert kinds.total() == budgeted.delivered + stopped.delivered + rest.delivered


def test_a_killed_simulation_leaves_no_gap_and_no_repetition(settings: Settings) -> None:
    options = ["--days", "1", "--until", MIDNIGHT.isoformat(), "--contract", "device_event", "--cadence", "20"]
    process = subprocess.Popen([*iot("simulate"), *options], env=environment(settings), stderr=subprocess.PIPE)
    journal = settings.home / "simulator"
    assert wait_until(lambda: any(journal.glob("*.json")) and count(settings, "device_event") > 500, 30)
    process.kill()
    process.communicate()
    fleet = FleetOptions(contracts=("device_event",), cadence_seconds=20)
    result = simulate(settings, SimulationOptions(History(1, MIDNIGHT), fleet), now=NOW)
    assert result.already_sent > 500 and result.complete
    check_truth(settings, load_truth(result.truth), ("device_event",))


def test_a_topic_that_was_made_anew_is_filled_again(settings: Settings) -> None:
    from iot_platform.local.kafka import admin_client

    options = SimulationOptions(History(1, MIDNIGHT), replace(FLEET, contracts=("sensor_reading",)))
    first = simulate(settings, options, now=NOW)
    name = load_topics(settings)["sensor_reading"].name
    admin = admin_client(settings, settings.kafka_bootstrap)
    admin.delete_topics([name])[name].result(10)
    assert wait_until(lambda: name not in admin.list_topics(timeout=10).topics, 20)
    create_topics(settings)
    again = simulate(settings, options, now=NOW)
    assert again.delivered == first.delivered
    check_truth(settings, load_truth(again.truth), ("sensor_reading",))


def test_a_live_fleet_keeps_its_pace_by_the_clock_it_is_given(settings: Settings) -> None:
    clock = SteppingClock()
    live = Live(rate=100, duration_seconds=10)
    result = simulate(settings, SimulationOptions(live, SMALL), now=NOW, clock=clock)
    assert result.delivered == pytest.approx(1000, rel=0.05)
    assert 9 < clock.time < 20
    check_truth_of_live(settings, load_truth(result.truth))
    few = simulate(settings, SimulationOptions(Live(50, max_events=10), SMALL), now=NOW + timedelta(hours=1), clock=clock)
    assert few.delivered == 10 and few.complete
    assert few.truth != result.truth


def check_truth_of_live(settings: Settings, truth: Truth) -> None:
    check_truth(settings, truth, SMALL.contracts)
    assert {line.kind for line in truth.injected} >= {"late", "malformed", "duplicate"}


class SteppingClock:
    """A clock that goes on by 10 ms at each look, so that a paced run needs no waiting."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 0.01
        return self.time


def test_ctrl_c_ends_a_live_simulation_in_order(settings: Settings) -> None:
    process = subprocess.Popen(
        [*iot("simulate"), "--rate", "200", "--json"],
        env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    assert wait_until(lambda: count(settings, "device_event") > 20, 30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err.decode()) == (0, "")
    said = json.loads(out)
    assert said["messages_delivered"] == len(records_of(settings, load_topics(settings)))
    assert said["messages_delivered"] == sum(said["messages"].values())
    assert Path(said["truth_file"]).exists()


def test_a_frozen_broker_holds_the_producer_back_and_loses_nothing(kafka: Broker, settings: Settings) -> None:
    service = running_service(kafka.settings.model_copy(update={"kafka_bootstrap": ""}))
    assert service
    broker = psutil.Process(service.pid)
    topic = load_topics(settings)["sensor_reading"].name
    places: list[Any] = []
    with MessageProducer(settings, "t", on_delivered=places.append, buffered_messages=500) as producer:
        producer.send(Outgoing(topic, b"k", b"first", []))
        producer.flush()
        broker.suspend()
        try:
            for number in range(500):
                producer.send(Outgoing(topic, b"k", b"%d" % number, [], tag=number))
            producer.wait(0.2)
            assert producer.delivered == 1
        finally:
            broker.resume()
        for number in range(500, 2000):  # more than the buffer holds
            producer.send(Outgoing(topic, b"k", b"%d" % number, [], tag=number))
    assert (producer.delivered, producer.failed) == (2001, 0)
    assert [place.tag for place in places[1:]] == list(range(2000))
    assert [record.value for record in records_of(settings, ["sensor_reading"])][1:] == [b"%d" % n for n in range(2000)]


def test_a_message_without_a_broker_is_counted_and_kept(make_settings: MakeSettings) -> None:
    settings = make_settings(kafka_bootstrap=f"127.0.0.1:{free_ports(1)[0]}")
    stopped: list[bool] = []
    with MessageProducer(
        settings, "t", delivery_seconds=1, buffered_messages=2, is_stopped=lambda: bool(stopped)
    ) as producer:
        producer.send(Outgoing("x", b"k", b"\xff", [("h", b"1")]))
        producer.flush()
        producer.send(Outgoing("x", b"k", b"a" * (producer_limit() + 1), []))
        producer.send(Outgoing("x", b"k", b"2", []))
        stopped.append(True)
        for number in (3, 4):
            producer.send(Outgoing("x", b"k", b"%d" % number, []))
    assert (producer.sent, producer.delivered, producer.failed) == (5, 0, 5) and producer.spool
    kept = [json.loads(line) for line in producer.spool.path.read_text().splitlines()]
    assert kept[0]["value"] == {"base64": "/w=="} and kept[0]["headers"] == [["h", "1"]]
    assert sorted(line["value"] for line in kept[2:]) == ["2", "3", "4"]
    assert "too large" in kept[1]["error"]
    assert (settings.logs / "producer.log").read_text()


def producer_limit() -> int:
    from iot_platform.simulator.producer import MESSAGE_MAX_BYTES

    return MESSAGE_MAX_BYTES


def test_messages_that_cannot_be_delivered_end_the_run_with_one_line(settings: Settings, kafka: Broker) -> None:
    service = running_service(kafka.settings.model_copy(update={"kafka_bootstrap": ""}))
    assert service
    broker = psutil.Process(service.pid)
    looks = iter(range(1_000_000))

    def freeze_soon() -> bool:
        if next(looks) == 100:
            broker.suspend()
        return False

    try:
        with pytest.raises(ServiceError, match=r"\d+ messages were not delivered .* they are kept in .*\.jsonl"):
            simulate(settings, HISTORY, now=NOW, is_stopped=freeze_soon, delivery_seconds=1)
    finally:
        broker.resume()
    rest = simulate(settings, HISTORY, now=NOW)
    assert rest.complete
    check_truth(settings, load_truth(rest.truth), SMALL.contracts)


def test_two_histories_of_one_fleet_do_not_run_at_once(settings: Settings) -> None:
    def second_one_is_refused() -> bool:
        with pytest.raises(ServiceError, match="another process holds"):
            simulate(settings, HISTORY, now=NOW)
        return True

    assert not simulate(settings, HISTORY, now=NOW, is_stopped=second_one_is_refused).complete


# The command line: wrong use is one line and an exit code.


def iot(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("iot")), *words]


def environment(settings: Settings) -> dict[str, str]:
    return dict(os.environ) | {
        "IOT_HOME": str(settings.home),
        "IOT_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "IOT_TOPICS_FILE": str(settings.topics_file),
    }


def count(settings: Settings, contract: str) -> int:
    from iot_platform.simulator.journal import TopicReader

    topic = load_topics(settings)[contract]
    reader = TopicReader(settings, settings.kafka_bootstrap)
    try:
        return sum(reader.ends(topic.name, topic.partitions).values())
    finally:
        reader.close()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `iot simulate` in process: exit code, stdout, the error's line."""
    from iot_platform.cli.simulate import simulate as command

    app = typer.Typer()
    app.command()(command)

    def invoke(settings: Settings, *words: str) -> tuple[int, str, str]:
        for name, value in environment(settings).items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, list(words))
        if isinstance(result.exception, PlatformError):
            return result.exception.exit_code, result.stdout, str(result.exception)
        return result.exit_code, result.stdout, result.stderr

    return invoke


def test_the_command_says_what_it_sent_and_where_the_truth_is(settings: Settings, run: Run) -> None:
    words = ("--start", f"{MIDNIGHT - timedelta(days=1):%Y-%m-%d}", "--until", f"{MIDNIGHT:%Y-%m-%d}", "--devices", "3",
             "--cadence", "900", "--contract", "device_event", "--late-rate", "0.1")  # fmt: skip
    code, out, err = run(settings, *words, "--max-events", "5")
    assert (code, err) == (0, "") and "stopped before the end" in out and "messages delivered: 5 in" in out
    code, out, _ = run(settings, *words)
    assert code == 0 and "injected: " in out and "already sent before: 5" in out
    assert out.splitlines()[-1].startswith("truth file: ")
    code, out, _ = run(settings, *words, "--json")
    assert code == 0 and json.loads(out)["messages_delivered"] == 0
    code, out, _ = run(settings, "--rate", "100", "--max-events", "20", "--cadence", "60")
    assert code == 0 and "messages delivered: 20 in" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--contract", "nope"], "no contract nope. There are environment_reading"),
        (["--rate", "5", "--days", "2"], "--days is for a history, --rate for a live run"),
        (["--duration", "5"], "--duration is for a live run"),
        (["--until", "soon"], "--until 'soon' is no time"),
        (["--start", "2026-01-01", "--days", "2"], "--start and --days both"),
        (["--status-mix", "80/20"], "--status-mix '80/20' is not three percentages"),
        (["--lateness", "900"], "--lateness '900' is no span"),
        (["--until", "2999-01-01"], "lies in the future"),
        (["--start", "1999-01-01", "--until", "1999-01-02"], "before the first partition"),
        (["--rate", "0.001"], "--rate 0.001 is less than"),
    ],
)
def test_wrong_use_ends_with_2_and_one_line(make_settings: MakeSettings, run: Run, words: list[str], said: str) -> None:
    code, out, err = run(make_settings(kafka_bootstrap="127.0.0.1:1"), *words)
    assert (code, out) == (2, "")
    assert said in err and "\n" not in err


def test_a_contract_without_a_topic_is_named(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("topics: {sensor_reading: {name: x, partitions: 1, retention_days: 1}}")
    with pytest.raises(InputError, match="has no topic for environment_reading, device_event, generic_reading"):
        simulate(make_settings(topics_file=tmp_path / "t.yaml"), SimulationOptions(History(1, MIDNIGHT)), now=NOW)


def test_no_broker_and_no_topic_end_with_1_and_one_line_before_anything_is_sent(
    kafka: Broker, make_settings: MakeSettings, topics_file: Path, run: Run
) -> None:
    code, _, err = run(make_settings(kafka_bootstrap=""), "--days", "1")
    assert code == 1 and "no Kafka broker is running" in err
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    code, _, err = run(settings, "--days", "1")
    assert code == 1 and "has no topic iot.environment-readings" in err and "iot topics create" in err
    code, _, err = run(settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{free_ports(1)[0]}"}), "--days", "1")
    assert code == 1 and "does not answer" in err
    assert not (settings.home / "truth").exists() and not settings.declarations.exists()
    with pytest.raises(ServiceError, match="refuses its options"):
        MessageProducer(settings.model_copy(update={"kafka_options": {"no.such": "x"}}), "t")


def test_the_real_command_shows_no_traceback(make_settings: MakeSettings) -> None:
    settings = make_settings(kafka_bootstrap=f"127.0.0.1:{free_ports(1)[0]}")
    command = [*iot("simulate"), "--contract", "nope"]
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "no contract nope" in done.stderr


def test_a_file_that_is_no_truth_says_so(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}\n")
    with pytest.raises(InputError, match="is no truth file"):
        load_truth(tmp_path / "x")

