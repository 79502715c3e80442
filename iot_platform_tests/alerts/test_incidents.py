"""Incidents: whatever comes and goes, each is told once when it begins and once when it is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from iot_platform.alerts.incidents import Finding, Incident, Told, advance

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
TICK = timedelta(seconds=30)
CALM = timedelta(minutes=5)
FORGET = timedelta(days=14)


def finding(subject: str = "t", kind: str = "lag", **chosen: object) -> Finding:
    return replace(Finding(kind, subject, f"{subject} is behind", "Do.", NOW), **chosen)  # pyright: ignore[reportArgumentType]


def stepped(
    known: list[Incident],
    found: list[Finding],
    now: datetime,
    unknown: frozenset[str] = frozenset(),
    resolved: frozenset[tuple[str, str]] = frozenset(),
) -> list[Incident]:
    return advance(known, found, resolved, unknown, now, calm=CALM, forget=FORGET)


def told(incidents: list[Incident], now: datetime) -> tuple[list[Incident], list[tuple[str, str]]]:
    """Everything that the channel is to be told, delivered; and what that was."""
    after: list[Incident] = []
    said: list[tuple[str, str]] = []
    for one in incidents:
        what = one.news_for("slack")
        if what:
            said.append((what, one.subject))
            changed = {what: now} | ({"severity": one.severity} if what == "opened" else {})
            one = replace(one, told={"slack": replace(one.told.get("slack", Told()), **changed)})  # noqa: PLW2901
        after.append(one)
    return after, said


def test_what_lasts_is_one_incident_and_its_end_comes_after_the_calm_time() -> None:
    known: list[Incident] = []
    said: list[tuple[str, str]] = []
    for n in range(40):
        now = NOW + n * TICK
        known, news = told(stepped(known, [finding()] if n < 20 else [], now), now)
        said += news
    assert said == [("opened", "t"), ("recovered", "t")]
    (one,) = known
    assert one.cleared_at == NOW + 20 * TICK and one.recovered_at == NOW + 20 * TICK + CALM and one.ending == "recovered"


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_however_it_comes_and_goes_news_alternate_and_never_come_faster_than_the_calm_time(seen: list[bool]) -> None:
    known: list[Incident] = []
    news: list[tuple[datetime, str]] = []
    for n, is_there in enumerate(seen):
        now = NOW + n * TICK
        known, said = told(stepped(known, [finding(since=now)] if is_there else [], now), now)
        news += [(now, what) for what, _ in said]
    assert [what for _, what in news] == (["opened", "recovered"] * len(news))[: len(news)]
    assert all(
        moment - before >= CALM for (before, _), (moment, what) in pairwise(news) if what == "recovered"
    )
    assert (any(seen) and len(news) > 0) or not any(seen)
    assert sum(one.is_open for one in known) <= 1
    if seen[-1]:
        assert known[-1].is_open


def test_what_comes_back_within_the_calm_time_is_the_same_incident() -> None:
    known = stepped([], [finding()], NOW)
    known = stepped(known, [], NOW + TICK)
    known = stepped(known, [finding()], NOW + 2 * TICK)
    (one,) = known
    assert one.is_open and one.cleared_at is None and one.relapses == 1


def test_what_cannot_be_looked_at_neither_ends_nor_begins() -> None:
    known = stepped([], [finding()], NOW)
    assert stepped(known, [], NOW + timedelta(hours=1), frozenset({"lag"})) == known


def test_a_warning_that_becomes_an_error_is_told_again_and_once() -> None:
    known, _ = told(stepped([], [finding(severity="WARN")], NOW), NOW)
    worse = finding(severity="ERROR", summary="far behind")
    known, said = told(stepped(known, [worse], NOW + TICK), NOW + TICK)
    assert said == [("opened", "t")] and known[0].summary == "far behind" and len(known) == 1
    known, said = told(stepped(known, [worse], NOW + 2 * TICK), NOW + 2 * TICK)
    assert said == [] and told(stepped(known, [finding(severity="WARN")], NOW + 3 * TICK), NOW)[1] == []


def test_what_got_worse_while_a_channel_was_paused_is_still_told_to_be_over() -> None:
    known, said = told(stepped([], [finding(severity="WARN")], NOW), NOW)
    known = stepped(known, [finding(severity="ERROR")], NOW + TICK)  # and nothing can be sent
    known = stepped(stepped(known, [], NOW + 2 * TICK), [], NOW + 2 * TICK + CALM)
    assert said == [("opened", "t")] and told(known, NOW)[1] == [("recovered", "t")]


def test_what_failed_within_the_time_is_kept_however_long_ago_it_began() -> None:
    known, _ = told(stepped([], [finding(kind="run_failure", run_id="r0")], NOW), NOW)
    for n in range(1, 17):
        now = NOW + n * timedelta(days=1)
        known = stepped(known, [finding(kind="run_failure", failed_at=now, run_id=f"r{n}")], now)
        known, said = told(stepped(known, [], now + TICK), now)
        assert said == [] and known[0].is_open and known[0].run_id == f"r{n}"
    now = known[0].failed_at or NOW
    known = stepped(known, [], now + TICK, resolved=frozenset({known[0].key}))
    known, said = told(stepped(known, [], now + TICK + CALM), now)
    assert said == [("recovered", "t")] and known[0].ending == "recovered"


def test_a_failed_check_that_nobody_repeats_is_dropped_without_a_word() -> None:
    known, _ = told(stepped([], [finding(kind="failed_check")], NOW), NOW)
    known, said = told(stepped(known, [], NOW + FORGET), NOW + FORGET)
    assert known[0].ending == "expired" and said == []


def test_a_channel_is_told_of_an_end_only_if_it_was_meant_to_hear_of_the_beginning() -> None:
    known = stepped([], [finding()], NOW)
    (one,) = stepped(stepped(known, [], NOW + TICK), [], NOW + TICK + CALM)
    assert one.ending == "recovered"
    assert one.news_for("set up later") is None
    assert replace(one, told={"slack": Told(error="HTTP 500")}).news_for("slack") == "recovered"
    assert replace(one, told={"slack": Told(opened=NOW, recovered=NOW)}).news_for("slack") is None


def test_different_subjects_are_incidents_of_their_own() -> None:
    known = stepped([], [finding("a"), finding("b"), finding("a", kind="stuck_ingest")], NOW)
    assert len({one.incident_id for one in known}) == 3
    again = stepped(known, [finding("a")], NOW + TICK)
    assert [one.cleared_at is None for one in again] == [True, False, False]
