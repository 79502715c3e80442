"""The ten questions of `examples/analysis.sql`, asked of a simulated fleet's data, and held against plain Python."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from iot_platform.cli.app import app
from iot_platform.engines import open_engine
from iot_platform.engines.materialize import materialize_date
from iot_platform.engines.registry import sync_registry
from iot_platform.lake.lake import Lake
from iot_platform.lake.levels import daily_transforms
from iot_platform.lake.questions import read_questions
from iot_platform.marts.build import build
from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform_tests.integration.derived import rows_of
from iot_platform_tests.integration.test_engines_on_demo_data import DATES, NOW, land

pytestmark = [pytest.mark.integration, pytest.mark.untraced]

QUESTIONS = PROJECT_ROOT / "examples" / "analysis.sql"
ANSWERS = PROJECT_ROOT / "examples" / "analysis.md"
MERGE = timedelta(minutes=15)  # the fleet's cadence is two minutes: three of them are less

Row = dict[str, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The simulator's fleet over two dates, without Kafka and Spark, up to the marts."""
    settings = Settings(home=tmp_path_factory.mktemp("analysis-home"), _env_file=None)  # pyright: ignore[reportCallIssue]
    land(settings)
    lake, engine = Lake(settings), open_engine(settings)
    sync_registry(lake, engine, now=NOW)
    for transform in daily_transforms():
        for day in DATES:
            materialize_date(lake, engine, transform, day, now=NOW)
    engine.close()
    build(settings)
    return settings


@pytest.fixture(scope="module")
def answers(home: Settings) -> dict[str, list[Row]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IOT_HOME", str(home.home))
        done = CliRunner().invoke(app, ["query", "--file", str(QUESTIONS), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return {answer["name"]: answer["rows"] for answer in json.loads(done.stdout)}


def documented() -> Iterator[tuple[str, list[str]]]:
    """Each question of the document with the columns of its answer."""
    for section in re.split(r"^## ", ANSWERS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name = section.split("\n", 1)[0].split(". ", 1)[1]
        header = next(line for line in section.splitlines() if line.startswith("| "))
        yield name, [cell.strip() for cell in header.strip("|").split("|")]


def test_each_question_has_rows_with_the_documented_columns(answers: dict[str, list[Row]]) -> None:
    questions = read_questions(QUESTIONS)
    assert len(questions) == 10 and all(question.text.endswith("?") for question in questions)
    assert list(answers) == [question.name for question in questions] == [name for name, _ in documented()]
    for name, columns in documented():
        assert answers[name] and list(answers[name][0]) == columns, name


def test_what_was_rejected_and_came_late_is_what_a_count_of_the_rows_says(
    home: Settings, answers: dict[str, list[Row]]
) -> None:
    silver, rejected = rows_of(home, "silver/readings"), rows_of(home, "silver/rejected_readings")
    for table, column in ((silver, "readings"), (rejected, "rejected")):
        counted = Counter(row["event_date"].isoformat() for row in table)
        told = Counter[str]()
        for row in answers["rejected_share_by_site"]:
            told[row["event_date"]] += row[column]
        assert told == counted and counted.total() > 0
    late = Counter(row["contract"] for row in silver if row["is_late"])
    assert {row["contract"]: row["late"] for row in answers["late_readings"]} == {
        contract: late[contract] for contract in {row["contract"] for row in silver}
    }
    unread = Counter(row["reason"] for row in rows_of(home, "bronze/quarantine"))
    assert {row["reason"]: row["messages"] for row in answers["unreadable_messages"]} == unread


def test_the_longest_anomalies_are_those_of_the_readings_merged_over_midnight(
    home: Settings, answers: dict[str, list[Row]]
) -> None:
    times: defaultdict[tuple[str, str], list[datetime]] = defaultdict(list)
    for row in rows_of(home, "silver/readings"):
        if row["is_anomaly"]:
            times[row["device_id"], row["metric"]].append(row["event_time"])
    events: list[list[datetime]] = []
    for moments in times.values():
        last = datetime.min.replace(tzinfo=UTC)
        for moment in sorted(moments):
            if moment - last >= MERGE:
                events.append([])
            events[-1].append(moment)
            last = moment
    lengths = sorted((round((event[-1] - event[0]) / timedelta(minutes=1), 1) for event in events), reverse=True)
    assert [row["minutes"] for row in answers["longest_anomalies"]] == pytest.approx(lengths[:10], abs=0.1)


def test_energy_busiest_hours_and_silence_are_those_of_the_readings(home: Settings, answers: dict[str, list[Row]]) -> None:
    silver = rows_of(home, "silver/readings")
    energy: defaultdict[date, float] = defaultdict(float)
    hours: defaultdict[str, Counter[datetime]] = defaultdict(Counter)
    for row in silver:
        if row["metric"] == "energy":
            energy[row["event_date"]] += row["value"] / 1000
        if row["contract"] == "device_event":
            hours[row["metric"]][row["event_time"].replace(minute=0, second=0, microsecond=0)] += 1
    told: defaultdict[date, float] = defaultdict(float)
    for row in answers["energy_by_site"]:
        told[date.fromisoformat(row["event_date"])] += row["energy_kwh"]
    assert dict(told) == pytest.approx(dict(energy), abs=0.01 * len(answers["energy_by_site"]))
    most = {kind: max(counted.values()) for kind, counted in hours.items()}
    assert {row["device_type"]: row["events"] for row in answers["busiest_hours"]} == most
    heard = {row["device_id"] for row in silver}
    known = {row["device_id"] for row in rows_of(home, "registry/devices")}
    assert {row["device_id"] for row in answers["silent_devices"]} == known - heard


def test_health_is_the_mean_of_the_windows_of_those_that_failed_on_a_date(
    home: Settings, answers: dict[str, list[Row]]
) -> None:
    windows: defaultdict[str, defaultdict[date, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(home, "gold/sensor_health"):
        windows[row["device_id"]][row["event_date"]].append(row["health_pct"])
    means = {name: [sum(day) / len(day) for day in days.values()] for name, days in windows.items()}
    worst = {name: sum(days) / len(days) for name, days in means.items() if min(days) < 90}
    told = {row["device_id"]: row["health_pct"] for row in answers["least_healthy_devices"]}
    assert told == pytest.approx(dict(sorted(worst.items(), key=lambda one: (round(one[1], 1), one[0]))[:10]), abs=0.06)
