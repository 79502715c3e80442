"""The topics file: what it may say, and what it says when it is wrong. The broker's side: integration/test_services.py."""

from pathlib import Path

import pytest

from iot_platform.contracts.wire import CONTRACTS
from iot_platform.errors import InputError, ServiceError
from iot_platform.settings import Settings
from iot_platform.topics import create_topics, load_topics
from iot_platform_tests.conftest import MakeSettings

GOOD = "{name: a, partitions: 1, retention_days: 1}"


def test_every_contract_has_its_topic(settings: Settings) -> None:
    topics = load_topics(settings)
    assert topics.keys() == CONTRACTS.keys()
    assert {(topic.name, topic.partitions, topic.retention_days) for topic in topics.values()} == {
        ("iot.environment-readings", 6, 7),
        ("iot.sensor-readings", 6, 7),
        ("iot.device-events", 3, 7),
        ("iot.readings", 6, 7),
    }
    assert topics["device_event"].config["message.timestamp.type"] == "LogAppendTime"
    assert topics["device_event"].config["retention.ms"] == str(7 * 86_400_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("topics: [", "line 1: not YAML"),
        ("", "topics: must map"),
        ("topics: {}", "topics: must map"),
        ("[]", "topics: must map"),
        (f"topics: {{no_such: {GOOD}}}", "topics.no_such: no such contract; there are environment_reading"),
        ("topics: {device_event: iot.x}", "topics.device_event: must have the keys name, partitions, retention_days"),
        ("topics: {device_event: {name: a, partitions: 1}}", "topics.device_event.retention_days: must be a number"),
        ("topics: {device_event: {name: 5}}", "topics.device_event.name: must be"),
        ("topics: {device_event: {name: a, partitions: 0, retention_days: 1}}", "topics.device_event.partitions: must be"),
        ("topics: {device_event: {name: a, partitions: true, retention_days: 1}}", "partitions: must be"),
        ("topics: {device_event: {name: a, partitions: 1, retention_days: yes}}", "retention_days: must be"),
        ("topics: {device_event: {name: a, partition: 1}}", "topics.device_event.partition: no such key"),
        (f"topics: {{device_event: {GOOD}, sensor_reading: {GOOD}}}", "a is the topic of another contract too"),
    ],
)
def test_a_wrong_file_is_said_with_its_name_and_the_key(
    text: str, said: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    path = tmp_path / "my-topics.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        load_topics(make_settings(topics_file=path))
    assert said in str(raised.value) and str(path) in str(raised.value)


def test_a_file_that_cannot_be_read_is_said(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory. Set IOT_TOPICS_FILE"):
        load_topics(make_settings(topics_file=tmp_path / "absent.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="not YAML"):
        load_topics(make_settings(topics_file=tmp_path / "binary.yaml"))


def test_without_a_broker_one_line_says_what_to_do(settings: Settings) -> None:
    with pytest.raises(ServiceError, match="no Kafka broker is running. Run `iot services up`, or set IOT_KAFKA_BOOTSTRAP"):
        create_topics(settings)
