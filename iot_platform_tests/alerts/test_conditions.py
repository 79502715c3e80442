"""The conditions: what is an incident, from when on, and what is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from iot_platform.alerts.conditions import Bounds, failed_runs, look
from iot_platform.alerts.facts import CheckResult, Facts, FailedRun, FailedRunsSeen, Freshness, Ingest
from iot_platform.alerts.incidents import Finding, Incident, advance
from iot_platform.alerts.memory import KEPT_STALE, Memory
from iot_platform_tests.conftest import MakeSettings

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
D = date(2026, 3, 10)
DAY = timedelta(days=1)


@pytest.fixture
def bounds(make_settings: MakeSettings) -> Bounds:
    return Bounds.of(make_settings(alert_lag_records=100))


def clean(now: datetime = NOW) -> Facts:
    return Facts(now, runs=FailedRunsSeen(), checks=(), freshness=(), stale={}, ingest=Ingest({"t": 0}, 50))


def watched(looks: list[Facts], bounds: Bounds) -> list[Finding]:
    """The findings of the last of these looks."""
    memory, findings = Memory(), []
    for facts in looks:
        memory = Memory.load(memory.follow(facts, bounds.lag_records).dump())
        findings = look(facts, memory, [], bounds).findings
    return findings


def after(known: list[Incident], facts: Facts, bounds: Bounds) -> list[Incident]:
    """The incidents after a look."""
    sight = look(facts, Memory(), known, bounds)
    return advance(known, *sight, facts.now, calm=bounds.calm, forget=bounds.forget)


def each(minutes: int, facts: Facts) -> list[Facts]:
    return [replace(facts, now=NOW + n * MINUTE) for n in range(minutes + 1)]


def test_nothing_wrong_finds_nothing(bounds: Bounds) -> None:
    assert look(clean(), Memory(), [], bounds) == ([], set(), set())


def test_what_was_not_looked_at_is_unknown_and_not_well(bounds: Bounds) -> None:
    findings, resolved, unknown = look(Facts(NOW), Memory(), [], bounds)
    assert findings == [] and resolved == set()
    assert unknown == {
        "run_failure", "failed_check", "quarantine_rate", "late_rate", "stale_asset", "stuck_ingest", "lag",
    }  # fmt: skip


def test_failed_runs_of_one_step_are_one_finding_that_names_their_dates() -> None:
    runs = [
        FailedRun("r1", "silver/readings", "disk full", NOW - MINUTE, [D]),
        FailedRun("r2", "silver/readings", "disk still full", NOW, [D + DAY, D]),
        FailedRun("r3", "gold/sensor_health", "by its check", NOW, [D], is_explained=True),
    ]
    (found,) = failed_runs(runs)
    assert found.summary == "silver/readings failed of 2026-03-10, 2026-03-11: disk still full"
    assert (found.run_id, found.since, found.day, found.place) == ("r2", NOW - MINUTE, None, "/runs/r2")


@pytest.mark.parametrize(
    ("warnings", "kinds"),
    [
        ("none", ["failed_check"]),
        ("rates", ["failed_check", "late_rate"]),
        ("all", ["failed_check", "failed_check", "late_rate"]),
    ],
)
def test_errors_of_checks_are_incidents_and_warnings_as_chosen(
    make_settings: MakeSettings, warnings: str, kinds: list[str]
) -> None:
    bounds = Bounds.of(make_settings(alert_warnings=warnings))
    checks = [
        CheckResult("silver/readings", "contract", D, False, True, "3 rows", "r1", NOW),
        CheckResult("silver/readings", "devices_are_declared", D, False, False),
        CheckResult("silver/readings", "late_rate", D, False, False, "12 % late"),
        CheckResult("silver/readings", "conservation", D, True),
        CheckResult("silver/readings", "dates_are_fresh", None, False, False),
    ]
    findings = look(replace(clean(), checks=checks), Memory(), [], bounds).findings
    assert sorted(one.kind for one in findings) == kinds
    assert findings[0].summary == "silver/readings of 2026-03-10: contract: 3 rows"
    assert findings[0].place == "/assets/silver/readings?view=checks" and findings[0].day == D


def test_a_check_fails_until_a_newer_result_of_the_same_date_passes(bounds: Bounds) -> None:
    failed = CheckResult("silver/readings", "contract", D, False)
    known = after([], replace(clean(), checks=[failed]), bounds)
    assert after(known, clean(NOW + DAY), bounds) == known
    other_date = replace(failed, day=D + DAY, passed=True)
    assert after(known, replace(clean(NOW + DAY), checks=[other_date]), bounds) == known
    over = replace(clean(NOW + DAY), checks=[replace(failed, passed=True)])
    (one,) = known = after(known, over, bounds)
    assert one.cleared_at == NOW + DAY
    (one,) = after(known, clean(NOW + DAY + bounds.calm), bounds)  # and it does not come back by itself
    assert one.ending == "recovered"


def test_a_check_that_passes_after_more_than_the_time_to_forget_has_recovered(bounds: Bounds) -> None:
    """The looks stopped meanwhile; or it kept failing."""
    failed = CheckResult("silver/readings", "contract", D, False, at=NOW)
    passed_late = replace(clean(NOW + 15 * DAY), checks=[replace(failed, passed=True)])
    for between in ([], [replace(clean(NOW + n * DAY), checks=[replace(failed, at=NOW + n * DAY)]) for n in range(16)]):
        known: list[Incident] = []
        later = clean(NOW + 15 * DAY + bounds.calm)
        for facts in [replace(clean(), checks=[failed]), *between, passed_late, later]:
            known = after(known, facts, bounds)
        assert [one.ending for one in known] == ["recovered"]


def test_what_nobody_repeats_is_forgotten_when_its_time_is_over_and_not_before(bounds: Bounds) -> None:
    check = CheckResult("silver/readings", "late_rate", D, False, at=NOW)
    run = FailedRun("r1", "silver/readings", "disk full", NOW, [D])
    known = after([], replace(clean(), checks=[check], runs=FailedRunsSeen([run])), bounds)
    assert len(known) == 2
    known = after(known, replace(clean(NOW + 13 * DAY)), bounds)
    assert all(one.is_open and one.cleared_at is None for one in known)
    assert {one.ending for one in after(known, clean(NOW + bounds.forget), bounds)} == {"expired"}


def test_a_failed_run_is_over_by_its_work_done_alone(bounds: Bounds) -> None:
    run = FailedRun("r1", "silver/readings", "disk full", NOW, [D])
    known = after([], replace(clean(), runs=FailedRunsSeen([run])), bounds)
    assert after(known, replace(clean(), runs=FailedRunsSeen((), {"another"})), bounds) == known
    assert after(known, replace(clean(), runs=FailedRunsSeen([run], {"r1"})), bounds) == known
    (one,) = after(known, replace(clean(NOW + 15 * DAY), runs=FailedRunsSeen((), {"r1"})), bounds)
    assert one.is_open and one.cleared_at == NOW + 15 * DAY


@pytest.mark.parametrize(
    ("state", "warnings", "count"), [("PASS", "all", 0), ("WARN", "rates", 0), ("WARN", "all", 1), ("FAIL", "none", 1)]
)
def test_an_asset_whose_freshness_fails_is_stale(
    make_settings: MakeSettings, state: str, warnings: str, count: int
) -> None:
    facts = replace(clean(), freshness=[Freshness("silver/readings", state, NOW)])
    findings = look(facts, Memory(), [], Bounds.of(make_settings(alert_warnings=warnings))).findings
    assert [(one.kind, one.subject) for one in findings] == [("stale_asset", "silver/readings")] * count


def test_dates_that_stay_stale_for_an_hour_are_one_finding_a_table(bounds: Bounds) -> None:
    facts = replace(clean(), stale={("silver/readings", D): 7, ("silver/readings", D + DAY): 9})
    assert watched(each(59, facts), bounds) == []
    (found,) = watched(each(60, facts), bounds)
    assert found.summary.startswith("silver/readings: 2 date(s) older than their inputs for over 60 min of 2026-03-10, ")
    assert found.since == NOW and found.subject == "silver/readings by date"


def test_a_date_that_is_made_again_and_again_is_not_stale_for_long(bounds: Bounds) -> None:
    looks = [replace(clean(NOW + n * MINUTE), stale={("silver/readings", D): n // 20}) for n in range(200)]
    assert watched(looks, bounds) == []


def test_of_very_many_stale_dates_the_longest_stale_are_followed(bounds: Bounds) -> None:
    old = {("silver/readings", D): 1}
    many = old | {("gold/sensor_health", D - n * DAY): 0 for n in range(1, 2000)}
    memory = Memory().follow(replace(clean(), stale=old), 100).follow(replace(clean(NOW + MINUTE), stale=many), 100)
    assert len(memory.unchanged) == KEPT_STALE and memory.since(f"stale/silver/readings/{D}") == NOW
    assert len(memory.dump()) < 60_000


def test_ingestion_that_commits_nothing_while_records_wait_is_stuck(bounds: Bounds) -> None:
    waiting = replace(clean(), ingest=Ingest({"t": 3, "u": 0}, 50, "process 7 on here ingests, drain"))
    assert watched(each(9, waiting), bounds) == []
    (found,) = watched(each(10, waiting), bounds)
    assert (found.kind, found.subject, found.since) == ("stuck_ingest", "ingest", NOW) and "process 7" in found.summary
    moving = [replace(waiting, now=NOW + n * MINUTE, ingest=Ingest({"t": 3}, 50 + n // 8)) for n in range(40)]
    assert watched(moving, bounds) == []
    idle = each(60, clean())
    assert watched(idle, bounds) == []


def test_a_worker_that_ends_again_and_again_is_an_incident_even_where_no_broker_answers(bounds: Bounds) -> None:
    for behind in ({"t": 0}, None):
        failing = replace(clean(), ingest=Ingest(behind, 50, failing="it ended 4 times", failing_since=NOW - MINUTE))
        (found,) = look(failing, Memory(), [], bounds).findings
        assert (found.kind, found.subject, found.since) == ("stuck_ingest", "service", NOW - MINUTE)
        assert "it ended 4 times" in found.summary


def test_a_broker_that_stays_silent_is_an_incident_and_hides_no_other(bounds: Bounds) -> None:
    silent = replace(clean(), ingest=Ingest(None, 50, problem="no broker answers"))
    (found,) = watched(each(10, silent), bounds)
    assert (found.kind, found.subject) == ("stuck_ingest", "kafka")
    assert look(silent, Memory(), [], bounds).unknown == {"stuck_ingest", "lag"}
    assert watched([*each(10, silent), clean(NOW + 11 * MINUTE)], bounds) == []


def test_lag_is_an_incident_when_it_is_high_for_long(bounds: Bounds) -> None:
    def behind(records: int, minute: int) -> Facts:
        return replace(clean(NOW + minute * MINUTE), ingest=Ingest({"t": records, "u": 100}, minute))

    assert watched([behind(101 + n, n) for n in range(10)], bounds) == []
    (found,) = watched([behind(101 + n, n) for n in range(11)], bounds)
    assert (found.kind, found.subject) == ("lag", "t") and "111 records wait" in found.summary
    assert watched([behind(101 if n != 5 else 100, n) for n in range(11)], bounds) == []


def test_a_look_that_failed_leaves_the_waiting_times_as_they_were(bounds: Bounds) -> None:
    stale = replace(clean(), stale={("silver/readings", D): 7})
    blind = Facts(NOW + 30 * MINUTE)
    assert watched([stale, blind, replace(stale, now=NOW + 60 * MINUTE)], bounds)


@pytest.mark.parametrize("cursor", [None, "", "{", "[]", '{"unchanged": 3}', '{"pauses": {"slack": {}}}'])
def test_a_cursor_that_cannot_be_read_is_forgotten(cursor: str | None) -> None:
    assert Memory.load(cursor) == Memory()


def test_a_channel_that_fails_is_tried_with_growing_pauses_up_to_half_an_hour() -> None:
    memory, now, pauses = Memory(), NOW, []
    for _ in range(9):
        memory = Memory.load(memory.failed("slack", now).dump())
        until = datetime.fromisoformat(memory.pauses["slack"].until)
        pauses.append((until - now).total_seconds())
        assert not memory.may_send("slack", until - timedelta(seconds=1)) and memory.may_send("slack", until)
        assert memory.may_send("email", now)
        now = until
    assert pauses == [30, 60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert memory.succeeded("slack").may_send("slack", NOW)
