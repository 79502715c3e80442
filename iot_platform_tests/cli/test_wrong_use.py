"""Wrong use and broken surroundings, by the command line: one clear line, exit code 1 or 2, no traceback, nothing done."""

from __future__ import annotations

from pathlib import Path

import pytest

from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform_tests.cli.conftest import Iot, Ran

EXAMPLES = PROJECT_ROOT / "examples"
SAMPLE = (str(EXAMPLES / "air_quality.csv"), "--mapping", str(EXAMPLES / "air_quality.yaml"))
NOBODY = "127.0.0.1:1"  # a port that no program of a user may listen on


def one_line(ran: Ran, code: int, *said: str) -> None:
    lines = [line for line in ran.err.splitlines() if line.strip()]
    assert ran.code == code, ran
    assert "Traceback" not in ran.err + ran.out
    assert len(lines) == 1, ran.err
    for words in said:
        assert words in lines[0]


@pytest.mark.parametrize("command", [("ingest",), ("simulate", "--days", "1"), ("replay", *SAMPLE), ("topics", "create")])
def test_without_a_broker_a_command_says_how_to_get_one(iot: Iot, settings: Settings, command: tuple[str, ...]) -> None:
    one_line(iot(*command), 1, "no Kafka broker is running", "iot services up")
    assert not (settings.home / "lake" / "bronze").exists()


@pytest.mark.parametrize("command", [("ingest",), ("simulate", "--days", "1"), ("replay", *SAMPLE), ("topics", "create")])
def test_a_broker_that_does_not_answer_is_named(iot: Iot, command: tuple[str, ...]) -> None:
    one_line(iot(*command, IOT_KAFKA_BOOTSTRAP=NOBODY), 1, NOBODY, "does not answer")


@pytest.mark.integration
@pytest.mark.parametrize("command", [("ingest",), ("simulate", "--days", "1"), ("replay", *SAMPLE)])
def test_a_missing_topic_is_named(iot: Iot, kafka_address: str, missing_topics: Path, command: tuple[str, ...]) -> None:
    ran = iot(*command, IOT_KAFKA_BOOTSTRAP=kafka_address, IOT_TOPICS_FILE=str(missing_topics))
    one_line(ran, 1, "never-made-", "iot topics create")


@pytest.fixture
def kafka_address(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("kafka").bootstrap


@pytest.fixture
def missing_topics(tmp_path: Path) -> Path:
    path = tmp_path / "topics.yaml"
    text = (PROJECT_ROOT / "iot_platform" / "topics.yaml").read_text()
    path.write_text(text.replace("iot.", "never-made-"))
    return path


def test_a_bad_mapping_is_named_with_its_place(iot: Iot, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("contract: weather\ntimestamp: {format: iso}\n")
    one_line(iot("replay", str(EXAMPLES), "--mapping", str(mapping)), 2, str(mapping), "contract")


def test_a_file_that_is_not_there_is_named(iot: Iot, tmp_path: Path) -> None:
    one_line(iot("replay", str(tmp_path / "none.csv"), *SAMPLE[1:]), 2, "none.csv")
    one_line(iot("replay", SAMPLE[0], "--mapping", str(tmp_path / "none.yaml")), 2, "none.yaml")


@pytest.mark.parametrize("command", [("status",), ("services", "up"), ("materialize", "--from", "2026-03-01")])
def test_a_home_that_cannot_be_written_is_named(iot: Iot, tmp_path: Path, command: tuple[str, ...]) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    one_line(iot(*command, IOT_HOME=str(blocked / "home")), 1, str(blocked))


def test_a_corrupt_table_stops_only_what_reads_it(iot: Iot, settings: Settings) -> None:
    assert iot("query", "select count(*) from gold_duration_p95").code == 0
    from iot_platform.lake import Lake

    lake = Lake(settings)
    lake.ensure("silver/readings")
    log = Path(lake.path("silver/readings")) / "_delta_log" / "00000000000000000000.json"
    log.write_text(log.read_text()[:50])
    one_line(iot("query", "select count(*) from silver_readings"), 1, "silver/readings", "cannot be read")
    one_line(iot("status"), 1, "silver/readings", "cannot be read")
    assert iot("query", "select count(*) from gold_duration_p95", "--json").json == [{"count_star()": 0}]
