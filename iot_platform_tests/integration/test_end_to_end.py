"""The platform as it runs: a broker, Dagster's web server and daemon, and nobody who helps.

The tests send messages and look through GraphQL, as the UI does, until what must follow has followed. All share one
deployment and its first drain. Each has dates of its own; those that get something late come last, since tables look back.
A backfill takes the daemon most of a minute, so it goes on while the tests before its own run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import dagster as dg
import pytest
import yaml
from dagster._core.test_utils import freeze_time

from iot_platform.assets.metadata import asset_key
from iot_platform.automation.run import persistent_instance
from iot_platform.lake.levels import daily_transforms
from iot_platform.local.dagster_ui import running_dagster
from iot_platform.settings import Settings
from iot_platform.topics import create_topics, load_topics
from iot_platform_tests.integration.deployment import Deployment, Made, until
from iot_platform_tests.integration.stream import Stream

if TYPE_CHECKING:
    from iot_platform_tests.conftest import Broker

pytestmark = [pytest.mark.integration, pytest.mark.untraced, pytest.mark.timeout(1_200)]
DAY = timedelta(days=1)
TODAY = datetime.now(UTC).date()
RECORDED = [("bronze/readings", "contract"), ("silver/readings", "conservation"), ("gold/sensor_health", "contract")]
DAILY = [transform.table for transform in daily_transforms()]
READINGS_A_DAY = 40
# One after the other, so that they are one range and few runs.
JUDGED, *ARRIVAL = [TODAY - (35 - n) * DAY for n in range(3)]
BACKFILL = [TODAY - (32 - n) * DAY for n in range(5)]
LATE = [TODAY - (27 - n) * DAY for n in range(3)]
LONG_AGO = timedelta(hours=3)  # longer than Silver may go without a new date


def readings(day: date, count: int = READINGS_A_DAY, minute: int = 0, value: bytes = b"20.5") -> list[bytes]:
    """Readings of one device on that date, 20 minutes apart."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
    return [
        b'{"sensor_id": "hall-1", "sensor_type": "temperature", "value": %s, "timestamp": "%s"}'
        % (value, (start + n * timedelta(minutes=20)).isoformat().encode())
        for n in range(count)
    ]


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A receiver as Slack's: its address, and what it was sent, growing."""
    received: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/services/secret", received
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def slack() -> Iterator[tuple[str, list[str]]]:
    with webhook() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def deployment(
    kafka: Broker, dbt_manifest: Path, slack: tuple[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Web server, daemon and code on a home and topics of their own; all test data waits in Kafka when they start."""
    home = tmp_path_factory.mktemp("end-to-end")
    shipped = load_topics(Settings(home=home, _env_file=None))  # pyright: ignore[reportCallIssue]
    topics, thresholds = home / "topics.yaml", home / "thresholds.yaml"
    named = {
        one.contract: {"name": f"{one.name}.end-to-end", "partitions": 1, "retention_days": 7} for one in shipped.values()
    }
    topics.write_text(yaml.safe_dump({"topics": named}))
    thresholds.write_text("")  # as shipped
    chosen = {
        "home": home, "kafka_bootstrap": kafka.bootstrap, "topics_file": topics, "thresholds_file": thresholds,
        "slack_webhook_url": slack[0], "alert_calm_minutes": 0, "_env_file": None,
    }  # fmt: skip
    settings = Settings(**chosen)
    create_topics(settings)
    settings.marts.parent.mkdir(parents=True)
    shutil.copy(dbt_manifest, settings.marts.with_name(dbt_manifest.name))  # parsed once for all tests
    with persistent_instance(settings) as instance, freeze_time(datetime.now(UTC) - LONG_AGO):
        made = dg.AssetMaterialization(asset_key("silver/readings"), partition=(TODAY - 100 * DAY).isoformat())
        instance.report_runless_asset_event(made)
    stream = Stream(settings)
    for day in (*ARRIVAL, *LATE, *BACKFILL):
        stream.send(readings(day))
    stream.send([b"{", *readings(ARRIVAL[0], 5)])  # one is broken, five were sent before
    stream.send([*readings(JUDGED, 60), *readings(JUDGED, 1, minute=7, value=b"null")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRESHNESS_DAEMON_INTERVAL_SECONDS", "2")  # Dagster's own; the others are the platform's
        with running_dagster(settings) as ui:
            yield Deployment(stream, ui)


def test_a_table_that_was_not_made_for_long_shows_it_until_it_is_made(deployment: Deployment) -> None:
    until(lambda: deployment.freshness("silver/readings"), lambda found: found == "DEGRADED", "Silver is too old")
    until(lambda: deployment.freshness("silver/readings"), lambda found: found == "HEALTHY", "Silver is fresh again")


def test_what_lands_in_kafka_becomes_bronze_silver_gold_and_marts_by_itself(deployment: Deployment) -> None:
    landed = deployment.wait_for_rows("bronze/readings", {ARRIVAL[0]: READINGS_A_DAY + 5, ARRIVAL[1]: READINGS_A_DAY})
    (drain,) = {made.run for made in landed.values()}
    assert {"key": "dagster/sensor_name", "value": "kafka_ahead"} in deployment.runs(runIds=[drain])[0]["tags"]
    deployment.wait_for_rows("silver/readings", dict.fromkeys(ARRIVAL, READINGS_A_DAY))
    deployment.wait_for_rows("silver/rejected_readings", {ARRIVAL[0]: 5, ARRIVAL[1]: 0})
    for table in DAILY:
        until(lambda table=table: deployment.made(table, ARRIVAL), lambda found: len(found) == 2, f"{table} of two dates")
    for table, check in RECORDED:
        found = until(
            lambda table=table, check=check: deployment.checked(table, check),
            lambda found: found.keys() >= set(ARRIVAL),
            f"{check} of {table} is recorded for both dates",
        )
        assert all(found[day].status == "SUCCEEDED" for day in ARRIVAL), found


@dataclass(frozen=True)
class UnderWay:
    """A backfill and a late reading on their way, and what each table had on their dates before."""

    backfill: str
    before: dict[str, dict[date, Made]]


@pytest.fixture(scope="module")
def under_way(deployment: Deployment) -> UnderWay:
    days = [*BACKFILL, *LATE]
    before = {
        table: until(
            lambda table=table: deployment.made(table, days), lambda found: len(found) == len(days), f"{table} of {days}"
        )
        for table in DAILY
    }
    backfill = deployment.launch_backfill(DAILY, BACKFILL)
    deployment.stream.send(readings(LATE[1], 1, minute=7))
    return UnderWay(backfill, before)


def test_a_threshold_made_strict_fails_a_check_and_people_are_told(
    deployment: Deployment, under_way: UnderWay, slack: tuple[str, list[str]]
) -> None:
    table, check, told = "silver/rejected_readings", "null_rate", slack[1]
    found = deployment.wait_for_check(table, check, JUDGED, "SUCCEEDED")  # one of 61 is null: less than the shipped bounds
    deployment.stream.settings.thresholds_file.write_text("null_rate: {warn: 0.001, fail: 0.01}")
    deployment.run_check(table, check, JUDGED)
    failed = deployment.wait_for_check(table, check, JUDGED, "FAILED")
    assert failed.severity == "ERROR" and failed.run != found.run
    until(lambda: list(told), lambda seen: any(about(one, check, JUDGED) for one in seen), "Slack is told of the check")
    assert any("Not fresh: silver/readings" in message for message in told), "nor of the table that was not fresh"


def test_a_late_reading_re_makes_its_date_and_what_looks_back_on_it(
    deployment: Deployment, under_way: UnderWay
) -> None:
    before = under_way.before["silver/readings"]
    assert before[LATE[1]].rows == READINGS_A_DAY
    deployment.wait_for_rows("bronze/readings", {LATE[1]: READINGS_A_DAY + 1})
    after = deployment.wait_for_rows("silver/readings", {LATE[1]: READINGS_A_DAY + 1})
    assert after[LATE[1]].run != before[LATE[1]].run
    assert deployment.made("silver/readings", [LATE[0]])[LATE[0]] == before[LATE[0]]
    until(
        lambda: deployment.made("silver/readings", LATE[2:])[LATE[2]],
        lambda found: found.run != before[LATE[2]].run and found.rows == READINGS_A_DAY,
        "the date after, which looks back over midnight",
    )


def test_five_dates_are_made_again_by_one_run_with_a_result_for_each(deployment: Deployment, under_way: UnderWay) -> None:
    ended = deployment.ended_backfill(under_way.backfill)
    assert ended["status"] == "COMPLETED_SUCCESS"
    (run,) = ended["runs"]
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    first, last = tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"]
    assert (first, last) == (BACKFILL[0].isoformat(), BACKFILL[-1].isoformat())
    for status in ended["assetBackfillData"]["assetBackfillStatuses"]:
        assert (status["numPartitionsTargeted"], status["numPartitionsMaterialized"]) == (5, 5), status
    for table in DAILY:
        after = deployment.made(table, BACKFILL)
        assert {made.run for made in after.values()} == {run["runId"]}, table
        rows = {day: made.rows for day, made in after.items()}
        assert rows == {day: under_way.before[table][day].rows for day in BACKFILL}, table
    checks = deployment.checked("silver/readings", "conservation")
    assert [(checks[day].status, checks[day].run) for day in BACKFILL] == [("SUCCEEDED", run["runId"])] * 5


def about(message: str, check: str, day: date) -> bool:
    return check in message and day.isoformat() in message
