"""The watch over a real Dagster record: what fails is told once at real receivers, what heals once more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from iot_platform.alerts import failed_runs
from iot_platform.alerts.book import book_file, listed, read_book, write_book
from iot_platform.alerts.failed_runs import FailedRuns
from iot_platform.alerts.gather import Gatherer
from iot_platform.alerts.memory import Memory
from iot_platform.alerts.outbox import Outbox
from iot_platform.alerts.resource import AlertChannels
from iot_platform.alerts.watch import Look, watch
from iot_platform.assets.platform import Platform
from iot_platform.definitions import build_defs
from iot_platform.errors import PlatformError
from iot_platform.local.process import LOOPBACK, wait_until
from iot_platform.settings import Settings
from iot_platform_tests.alerts.breakable import BROKEN, DEFS, after, mend, readings
from iot_platform_tests.alerts.receivers import Mailbox, Webhook
from iot_platform_tests.assets.small_lake import SmallLake
from iot_platform_tests.conftest import MakeSettings

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CALM = timedelta(minutes=6)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(autouse=True)
def _whole() -> Iterator[None]:
    yield
    mend()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def failing(instance: dg.DagsterInstance, day: str) -> str:
    """A run that fails before it begins; its id."""
    job = DEFS.resolve_implicit_global_asset_job_def().get_subset(asset_selection={after.key})
    run_ = instance.create_run_for_job(job, asset_selection=frozenset({after.key}), tags={"dagster/partition": day})
    instance.report_run_failed(run_, "no such image")
    return run_.run_id


def run(instance: dg.DagsterInstance, first: str, last: str = "") -> dg.DagsterRun:
    result = DEFS.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, raise_on_error=False,
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first},
        run_config=QUIET,
    )  # fmt: skip
    return result.dagster_run


class Watching:
    """Looks as the sensor does, at times that the test chooses; ``restart`` is a new process with the old cursor."""

    def __init__(self, settings: Settings, small: SmallLake, instance: dg.DagsterInstance) -> None:
        self.settings, self.small, self.instance = settings, small, instance
        self.cursor: str | None = None
        self.now = datetime.now(UTC)
        self.restart()

    def restart(self) -> None:
        graph = DEFS.resolve_asset_graph()
        self.gatherer = Gatherer(
            self.instance, self.small.lake, graph.get_all_asset_keys(), graph.asset_check_keys
        )
        self.outbox = Outbox()

    def look(self, later: timedelta = timedelta(0)) -> Look:
        self.now += later
        found = watch(self.gatherer, self.settings, Memory.load(self.cursor), self.now, self.outbox)
        self.cursor = found.memory.dump()
        return found


@pytest.fixture
def watching(
    make_settings: MakeSettings, small: SmallLake, instance: dg.DagsterInstance, webhook: Webhook
) -> Watching:
    settings = make_settings(
        slack_webhook_url=webhook.url, kafka_bootstrap=f"{LOOPBACK}:1", alert_stuck_minutes=1e6,
        dagster_url="http://dagster.example.org/",
    )  # fmt: skip
    return Watching(settings, small, instance)


@pytest.fixture(autouse=True)
def _no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iot_platform.alerts.gather.BROKER_SECONDS", 0.05)


def test_a_failed_run_is_told_once_with_its_dates_and_its_end_once_they_are_made(
    watching: Watching, webhook: Webhook
) -> None:
    BROKEN["dates"] = {"2026-03-10", "2026-03-12"}
    failed = run(watching.instance, "2026-03-10", "2026-03-12")
    watching.look()
    for _ in range(3):
        watching.restart()
        watching.look(MINUTE)
    (message,) = webhook.received
    assert message["text"] == "[error] Run failed: silver/readings"
    text = message["blocks"][1]["text"]["text"]
    # The date between was made by readings, and by nothing after it.
    assert "failed of 2026-03-10, 2026-03-11, 2026-03-12: not made: ['2026-03-10', '2026-03-12']" in text
    assert f"<http://dagster.example.org/runs/{failed.run_id}|Open in Dagster>" in text
    run(watching.instance, "2026-03-10", "2026-03-12")
    run(watching.instance, "2026-03-10", "2026-03-12")
    watching.look(MINUTE)
    assert len(webhook.received) == 1
    BROKEN["dates"] = set()
    run(watching.instance, "2026-03-12")
    watching.look(MINUTE)
    watching.look(CALM)
    assert len(webhook.received) == 1, "one date made, two still not"
    run(watching.instance, "2026-03-10", "2026-03-11")
    watching.look(MINUTE)
    watching.look(CALM)
    watching.look(MINUTE)
    assert webhook.titles == ["[error] Run failed: silver/readings", "[over] Run failed: silver/readings"]


def test_a_failed_check_is_one_incident_a_date_of_its_own_kind(watching: Watching, webhook: Webhook) -> None:
    BROKEN["check"] = False
    run(watching.instance, "2026-03-10", "2026-03-11")
    first = watching.look()
    assert (first.opened, first.still_open) == (2, 2) and webhook.titles == ["[error] 2 incident(s)"]
    assert {(one.kind, one.day) for one in read_book(watching.settings).incidents} == {
        ("late_rate", date(2026, 3, 10)), ("late_rate", date(2026, 3, 11)),
    }  # fmt: skip
    watching.restart()
    watching.look(MINUTE)
    BROKEN["check"] = True
    run(watching.instance, "2026-03-10")
    watching.look(MINUTE)
    watching.look(CALM)
    assert webhook.titles[1:] == ["[over] Too much late: silver/readings late_rate 2026-03-10"]
    assert [one.day for one in read_book(watching.settings).incidents if one.is_open] == [date(2026, 3, 11)]


def test_a_check_that_is_about_to_run_again_is_neither_passed_nor_failed(watching: Watching, webhook: Webhook) -> None:
    BROKEN["check"] = False
    run(watching.instance, "2026-03-10")
    watching.look()
    watching.instance.create_run_for_job(
        DEFS.resolve_implicit_global_asset_job_def(), tags={"dagster/partition": "2026-03-10"}
    )
    latest = watching.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(readings.key, "late_rate"), limit=1
    )
    assert latest[0].status.value == "PLANNED"
    watching.look(MINUTE)
    watching.look(CALM)
    assert len(webhook.received) == 1 and watching.look().still_open == 1


def test_what_failed_long_ago_opens_nothing_on_a_first_look(watching: Watching) -> None:
    BROKEN.update(check=False, dates={"2026-03-12"})
    run(watching.instance, "2026-03-10")
    run(watching.instance, "2026-03-12")
    assert watching.look(timedelta(days=15)).still_open == 0


def test_a_run_that_is_repeated_after_more_than_the_time_to_forget_has_recovered(
    watching: Watching, webhook: Webhook
) -> None:
    """Its attempts went on meanwhile, or nobody looked: both are told by what was made, not by the incident's age."""
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    watching.look()
    book = read_book(watching.settings)
    (one,) = book.incidents
    write_book(watching.settings, replace(book, incidents=[replace(one, opened_at=one.opened_at - timedelta(days=16))]))
    watching.restart()
    run(watching.instance, "2026-03-10")
    watching.look(MINUTE)
    assert read_book(watching.settings).incidents[0].run_id != one.run_id
    BROKEN["dates"] = set()
    run(watching.instance, "2026-03-10")
    watching.look(timedelta(days=15))
    watching.look(CALM)
    assert webhook.titles == ["[error] Run failed: silver/readings", "[over] Run failed: silver/readings"]


def test_a_failed_run_is_not_over_because_many_others_failed_since(
    watching: Watching, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_runs, "PAGE", 3)
    failing(watching.instance, "2026-03-09")
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    watching.look()
    for _ in range(7):
        failing(watching.instance, "2026-03-09")
    watching.look(MINUTE)
    watching.restart()
    watching.look(CALM)
    assert watching.look(CALM).still_open == 2 and webhook.titles == ["[error] 2 incident(s)"]
    assert len(FailedRuns().look(watching.instance, watching.now - DAY).unmade) == 2, "who never heard of it finds it too"
    BROKEN["dates"] = set()
    run(watching.instance, "2026-03-10")
    watching.look(MINUTE)
    assert watching.look(CALM).still_open == 1
    assert webhook.titles[1:] == ["[over] Run failed: silver/readings"]


def test_a_step_that_a_later_attempt_got_past_is_over_though_that_failed_elsewhere(
    watching: Watching, webhook: Webhook
) -> None:
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    watching.look()
    BROKEN.update(dates=set(), blocking=True)
    run(watching.instance, "2026-03-10")
    watching.look(MINUTE)
    watching.look(CALM)
    assert webhook.titles == [
        "[error] Run failed: silver/readings", "[error] Check failed: silver/readings gate",
        "[over] Run failed: silver/readings",
    ]  # fmt: skip


def test_of_very_many_failed_runs_some_are_looked_at_at_once_and_none_is_over_before_all_were(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = FailedRuns()
    days = [f"2026-03-{n:02}" for n in range(1, 8)]
    ids = [failing(watching.instance, day) for day in days]
    run(watching.instance, days[0], days[-1])
    again = failing(watching.instance, "2026-03-09")
    monkeypatch.setattr(failed_runs, "LOOKED_AT", 3)
    looks = [runs.look(watching.instance, watching.now - DAY, ids) for _ in range(4)]
    assert [[one.run_id for one in seen.unmade] for seen in looks] == [[again]] * 4
    assert [set(seen.over) for seen in looks] == [set(), set(), set(), set(ids)]


def test_a_run_that_dagster_forgot_is_neither_open_nor_over(watching: Watching, webhook: Webhook) -> None:
    BROKEN["dates"] = {"2026-03-10"}
    failed = run(watching.instance, "2026-03-10")
    watching.look()
    watching.instance.delete_run(failed.run_id)
    watching.look(MINUTE)
    assert watching.look(CALM).still_open == 1
    assert watching.look(timedelta(days=14)).still_open == 0 and len(webhook.received) == 1


def test_a_lost_cursor_repeats_nothing(watching: Watching, webhook: Webhook) -> None:
    BROKEN.update(check=False, dates={"2026-03-12"})
    run(watching.instance, "2026-03-10")
    run(watching.instance, "2026-03-12")
    watching.look()
    watching.cursor = None
    assert watching.look(MINUTE).opened == 0 and len(webhook.received) == 1


def test_a_run_that_only_its_check_failed_is_told_as_the_check(watching: Watching, webhook: Webhook) -> None:
    BROKEN["blocking"] = True
    assert run(watching.instance, "2026-03-10").status == dg.DagsterRunStatus.FAILURE
    watching.look()
    assert webhook.titles == ["[error] Check failed: silver/readings gate"]


def test_a_run_that_never_began_is_an_incident_until_the_same_succeeds(watching: Watching, webhook: Webhook) -> None:
    failing(watching.instance, "2026-03-10")
    watching.look()
    (message,) = webhook.received
    assert "no such image" in message["blocks"][1]["text"]["text"]


def test_a_run_that_makes_nothing_is_over_when_the_same_one_succeeds(watching: Watching, webhook: Webhook) -> None:
    def checks() -> None:
        DEFS.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=set(), asset_check_selection={dg.AssetCheckKey(readings.key, "gate")}
        ).execute_in_process(instance=watching.instance, raise_on_error=False, run_config=QUIET)

    BROKEN["crash"] = True
    checks()
    watching.look()
    (message,) = webhook.received
    assert "silver/readings_gate failed: OSError: the disk is gone" in message["blocks"][1]["text"]["text"]
    BROKEN["crash"] = False
    checks()
    watching.look(MINUTE)
    watching.look(CALM)
    assert webhook.titles[1:] == ["[over] Run failed: silver/readings_gate"]


def test_freshness_of_dagster_opens_and_ends_an_incident(watching: Watching, webhook: Webhook) -> None:
    def turns(state: FreshnessState) -> None:
        watching.instance._report_runless_asset_event(
            FreshnessStateChange(
                key=readings.key, new_state=state, previous_state=FreshnessState.UNKNOWN,
                state_change_timestamp=watching.now.timestamp(),
            )
        )  # fmt: skip

    turns(FreshnessState.FAIL)
    watching.look()
    watching.look(MINUTE)
    turns(FreshnessState.PASS)
    watching.look(MINUTE)
    watching.look(CALM)
    assert webhook.titles == ["[error] Not fresh: silver/readings", "[over] Not fresh: silver/readings"]


def test_dates_that_nobody_makes_are_told_after_an_hour(watching: Watching, webhook: Webhook) -> None:
    watching.small.day(date(2026, 3, 10))
    watching.look()
    watching.restart()
    watching.look(61 * MINUTE)
    assert len(webhook.received) == 1
    assert {one.subject for one in read_book(watching.settings).incidents} >= {"silver/readings by date"}


def test_one_channel_that_fails_is_tried_again_with_pauses_and_the_other_is_not_told_twice(
    watching: Watching, webhook: Webhook, mailbox: Mailbox
) -> None:
    watching.settings = watching.settings.model_copy(
        update={
            "smtp_host": LOOPBACK, "smtp_port": mailbox.port, "smtp_security": "none",
            "smtp_from": "iot@example.org", "smtp_to": "ops@example.org",
        }
    )  # fmt: skip
    webhook.status, webhook.body = 500, ""
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    first = watching.look()
    assert "slack: HTTP 500" in first.told and "email: told" in first.told
    (incident,) = read_book(watching.settings).incidents
    assert incident.told["slack"].error == "HTTP 500" and incident.told["email"].opened == watching.now
    asked = [watching.look(timedelta(seconds=20)) and webhook.asked for _ in range(12)]
    assert asked == [1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4], "20 s apart, pauses of 30 s, 60 s, 120 s"
    assert len(mailbox.mails) == 1
    webhook.status = 200
    watching.restart()
    watching.look(timedelta(minutes=10))
    watching.look(timedelta(minutes=10))
    assert webhook.titles == ["[error] Run failed: silver/readings"] and len(mailbox.mails) == 1
    (incident,) = read_book(watching.settings).incidents
    assert incident.told["slack"].error == ""


def test_what_was_over_before_a_channel_could_be_reached_is_told_by_its_end_alone(
    watching: Watching, webhook: Webhook
) -> None:
    webhook.status = 500
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    watching.look()
    BROKEN["dates"] = set()
    run(watching.instance, "2026-03-10")
    watching.look(MINUTE)
    webhook.status = 200
    watching.look(10 * MINUTE)
    watching.look(10 * MINUTE)
    assert webhook.titles == ["[over] Run failed: silver/readings"]


def test_what_begins_and_ends_within_a_pause_is_told_by_its_end_alone(watching: Watching, webhook: Webhook) -> None:
    failing(watching.instance, "2026-03-09")
    webhook.status = 500
    watching.look()
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    watching.look(timedelta(seconds=10))
    (told,) = [one.told for one in read_book(watching.settings).incidents if one.subject == "silver/readings"]
    assert told["slack"].error == "paused" and webhook.asked == 1
    BROKEN["dates"] = set()
    run(watching.instance, "2026-03-10")
    watching.look(timedelta(seconds=10))
    webhook.status = 200
    watching.look(CALM)
    assert webhook.titles == ["[error] 1 incident(s), 1 over"]


def test_a_slow_channel_gets_each_message_once_and_is_waited_for_in_the_background(
    watching: Watching, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching.outbox, "send", partial(watching.outbox.send, seconds=0.05))
    webhook.waits = True
    failing(watching.instance, "2026-03-09")
    assert watching.look().told == "1 incident(s) open; 1 new; slack: under way"
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    watching.look(MINUTE)
    assert webhook.asked == 1, "nothing is sent to a channel that is busy"
    assert {one.told["slack"].error for one in read_book(watching.settings).incidents} == {"under way"}
    webhook.waits = False
    webhook.release.set()
    assert wait_until(lambda: len(webhook.received) == 1, 10)

    def is_known() -> bool:
        watching.look(MINUTE)
        return not any(one.told["slack"].error for one in read_book(watching.settings).incidents)

    assert wait_until(is_known, 10)
    watching.look(MINUTE)
    assert webhook.asked == len(webhook.received) == 2, "the first once, then what waited for it"
    assert webhook.titles[1] == "[error] Run failed: silver/readings"


@pytest.mark.parametrize("spoil", ["torn", "a key is missing", "a list"])
def test_a_book_that_cannot_be_understood_is_set_aside_and_made_again_from_the_table(
    watching: Watching, webhook: Webhook, spoil: str
) -> None:
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    watching.look()
    file = book_file(watching.settings)
    text = file.read_text()
    bad = {"torn": text[: len(text) // 2], "a key is missing": text.replace('"opened_at"', '"began"'), "a list": "[]"}[spoil]
    file.write_text(bad)
    with pytest.raises(PlatformError, match="is no book of incidents"):
        read_book(watching.settings)
    found = watching.look(MINUTE)
    assert "made again from ops/incidents" in found.told and found.opened == 0
    assert [path.read_text() for path in file.parent.glob("*.bad")] == [bad]
    BROKEN["dates"] = set()
    run(watching.instance, "2026-03-10")
    watching.look(MINUTE)
    watching.look(CALM)
    assert webhook.titles == ["[error] Run failed: silver/readings", "[over] Run failed: silver/readings"]


def test_a_bad_book_and_a_bad_lake_begin_anew_and_tell_again(watching: Watching, webhook: Webhook) -> None:
    failing(watching.instance, "2026-03-10")
    book_file(watching.settings).parent.mkdir(parents=True)
    book_file(watching.settings).write_text("{")
    (watching.settings.home / "lake").write_text("in the way")
    assert "begun anew" in watching.look().told and len(webhook.received) == 1
    watching.look(MINUTE)
    assert len(webhook.received) == 1


def test_a_crash_after_the_message_and_before_the_book_repeats_it_and_loses_nothing(
    watching: Watching, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    from iot_platform.alerts import watch as module

    written = iter([True, False])

    def write(settings: Settings, book: Any) -> None:
        if not next(written):
            raise KeyboardInterrupt
        real(settings, book)

    real = module.write_book
    monkeypatch.setattr(module, "write_book", write)
    with pytest.raises(KeyboardInterrupt):
        watching.look()
    monkeypatch.setattr(module, "write_book", real)
    watching.restart()
    watching.look(MINUTE)
    watching.look(MINUTE)
    assert webhook.titles == ["[error] Run failed: silver/readings"] * 2


def test_a_book_that_cannot_be_written_tells_nobody_rather_than_everybody_at_every_look(
    watching: Watching, webhook: Webhook
) -> None:
    book_file(watching.settings).parent.parent.mkdir(parents=True, exist_ok=True)
    book_file(watching.settings).parent.write_text("in the way")
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    with pytest.raises(PlatformError):
        watching.look()
    assert webhook.received == []


def test_a_lake_that_cannot_be_read_is_no_reason_to_be_silent(watching: Watching, webhook: Webhook) -> None:
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    root = watching.settings.home / "lake"
    root.mkdir(parents=True)
    for layer in ("bronze", "ops", "silver", "gold", "registry"):
        (root / layer).write_text("in the way")
    found = watching.look()
    assert len(webhook.received) == 1 and len(found.problems) == 2
    assert "ops/incidents is not up to date" in found.told
    assert read_book(watching.settings).copied == ""


def test_the_table_has_every_incident_for_good_and_the_book_forgets_old_ones(watching: Watching) -> None:
    BROKEN["dates"] = {"2026-03-10"}
    run(watching.instance, "2026-03-10")
    watching.look()
    (row,) = watching.small.rows("ops/incidents")
    assert (row["kind"], row["subject"], row["event_date"]) == ("run_failure", "silver/readings", date(2026, 3, 10))
    assert row["notified_at"] == watching.now and row["recovered_at"] is None and '"slack"' in row["deliveries"]
    version = watching.small.lake.snapshot("ops/incidents").version
    watching.look(MINUTE)
    assert watching.small.lake.snapshot("ops/incidents").version == version, "nothing new, nothing written"
    BROKEN["dates"] = set()
    run(watching.instance, "2026-03-10")
    watching.look(MINUTE)
    watching.look(CALM)
    assert [one.ending for one in listed(read_book(watching.settings).incidents, watching.now, CALM)] == ["recovered"]
    watching.look(timedelta(days=31))
    assert read_book(watching.settings).incidents == []
    BROKEN["dates"] = {"2026-03-11"}
    run(watching.instance, "2026-03-11")
    watching.now = datetime.now(UTC)
    watching.look()
    first, second = sorted(watching.small.rows("ops/incidents"), key=lambda row: row["event_date"])
    assert first["ending"] == "recovered" and first["recovery_notified_at"] and second["recovered_at"] is None


def test_dagster_evaluates_the_sensor_over_the_whole_platform_in_seconds(
    make_settings: MakeSettings, dbt_manifest: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(kafka_bootstrap=f"{LOOPBACK}:1")
    repository = build_defs(settings, manifest=dbt_manifest).get_repository_def()
    resources = {"platform": Platform(settings), "alerts": AlertChannels.of(settings)}
    context = dg.build_sensor_context(instance=instance, repository_def=repository, resources=resources)
    began = monotonic()
    result = repository.get_sensor_def("alerts")(context)
    assert isinstance(result, dg.SensorResult) and isinstance(result.skip_reason, dg.SkipReason)
    assert result.skip_reason.skip_message == "0 incident(s) open" and not result.run_requests
    assert Memory.load(result.cursor).since("broker")
    assert monotonic() - began < 10
