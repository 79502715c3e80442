"""How ingestion stands is said in one word that fits what the worker, its supervisor and the lease tell."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from iot_platform.ingest.lease import Holder, Lease, lease
from iot_platform.ingest.progress import Progress, ProgressLog, TopicProgress, iso, read_progress
from iot_platform.ingest.standing import PATIENT_FAILURES, Standing, judge, standing
from iot_platform.ingest.supervision import Supervision, read_supervision, write_supervision
from iot_platform.local.process import ProcessIdentity
from iot_platform.settings import Settings

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
ME = ProcessIdentity.of(os.getpid())
HERE = socket.gethostname()
HOLDER = Holder("t", "continuous", HERE, ME.pid, ME.started_at, 0.0)
GONE = 1.0  # a start time that no process has


def progress(**changes: object) -> Progress:
    begun, moved = iso(NOW - timedelta(hours=1)), iso(NOW - timedelta(seconds=400))
    known = Progress(
        "ingesting", "continuous", HERE, ME.pid, ME.started_at, begun, iso(NOW), moved,
        topics={"t": TopicProgress(10, 10, 0, {"0": 10})},
    )  # fmt: skip
    return replace(known, **changes)  # pyright: ignore[reportArgumentType]


def supervision(**changes: object) -> Supervision:
    return replace(Supervision(HERE, ME.pid, ME.started_at, iso(NOW), iso(NOW)), **changes)  # pyright: ignore[reportArgumentType]


def judged(
    said: Progress | None, by: Supervision | None = None, held_by: Holder | None = HOLDER, waiting: int | None = None
) -> Standing:
    return judge(said, by, held_by, now=NOW, stuck_seconds=300, waiting=waiting)


BEHIND = {"t": TopicProgress(10, 13, 3, {"0": 10})}


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("absent", judged(None, held_by=None)),
        ("running", judged(None)),
        ("running", judged(progress())),
        ("running", judged(progress(topics=BEHIND, advanced_at=iso(NOW)))),
        ("running", judged(progress(topics=BEHIND), waiting=0)),
        ("stuck", judged(progress(topics=BEHIND))),
        ("stuck", judged(progress(), waiting=7)),
        ("running", judged(progress(topics=BEHIND, since=iso(NOW)))),
        ("waiting", judged(progress(state="waiting", topics=BEHIND, last_error="no broker"))),
        ("draining", judged(progress(topics=BEHIND), held_by=replace(HOLDER, mode="drain"))),
        ("restarting", judged(progress(), supervision(restarts=1, failures_in_a_row=1), None)),
        ("failing", judged(progress(), supervision(failures_in_a_row=PATIENT_FAILURES + 1), None)),
        ("failing", judged(progress(), supervision(failures_in_a_row=PATIENT_FAILURES + 1))),
        ("dead", judged(progress(), supervision(started_at=GONE), None)),
        ("dead", judged(progress(), supervision(beat_at=iso(NOW - timedelta(minutes=1))), None)),
        ("dead", judged(progress(), supervision(host="elsewhere", beat_at=iso(NOW - timedelta(minutes=1))), None)),
        ("restarting", judged(progress(), supervision(host="elsewhere", started_at=GONE), None)),
        ("dead", judged(progress(started_at=GONE), None, None)),
        ("failed", judged(progress(state="failed", last_error="disk full"), supervision(is_over=True), None)),
        ("stopped", judged(progress(state="stopped"), supervision(is_over=True), None)),
    ],
)
def test_the_word_fits(state: str, found: Standing) -> None:
    assert found.state == state
    assert found.is_in_trouble == (state in ("stuck", "failing"))
    assert found.restarts_soon == (state == "restarting")


def test_the_sentence_names_process_records_and_reasons() -> None:
    assert f"process {ME.pid}" in judged(progress(topics=BEHIND)).said
    assert "3 records wait" in judged(progress(topics=BEHIND)).said
    restarted = supervision(restarts=2, last_reason="it was ended by SIGKILL")
    assert "restarted 2 time(s), last because it was ended by SIGKILL" in judged(progress(), restarted).said


def test_figures_are_named_and_absent_before_anything_ran() -> None:
    figures = judged(progress(topics=BEHIND), supervision(restarts=2)).figures()
    assert figures["iot_ingest_restarts_total"] == 2 and figures["iot_ingest_up"] == 0
    assert figures['iot_ingest_lag_records{topic="t"}'] == 3
    assert judged(progress()).figures()["iot_ingest_up"] == 1
    assert judged(None, supervision(), None).figures() == {"iot_ingest_up": 0, "iot_ingest_restarts_total": 0}
    assert judged(None, held_by=None).figures() == {}


def test_a_file_that_is_torn_or_of_another_version_is_as_good_as_none(settings: Settings) -> None:
    folder = settings.home / "ingest"
    folder.mkdir(parents=True)
    for text in ("{ torn", '{"state": "ingesting"}', '{"unknown": 1}', "[]"):
        (folder / "progress.json").write_text(text)
        (folder / "supervisor.json").write_text(text)
        assert read_progress(settings) is None and read_supervision(settings) is None
        assert standing(settings).state == "absent"


def test_the_files_say_what_was_written(settings: Settings) -> None:
    said = supervision(restarts=3)
    write_supervision(settings, said, print)
    assert read_supervision(settings) == said
    with lease(settings, "continuous") as held:
        log = ProgressLog(settings, "continuous", held)
        log.begin(4, {"t": {0: 5, 1: 6}}, {"t": 20})
        found = standing(settings)
        assert (found.state, found.as_json()["progress"]["topics"]["t"]["lag"]) == ("running", 9)
        log.state("waiting", "no broker")
        assert (standing(settings).state, standing(settings).progress) == ("waiting", read_progress(settings))
        log.state("stopped")


def test_a_disk_that_refuses_the_file_stops_nothing(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "ingest").write_text("a file where the folder should be")
    problems: list[str] = []
    write_supervision(settings, supervision(), problems.append)
    assert "ingest cannot be made" in problems[0]


def test_the_log_keeps_rates_of_the_last_minute_and_what_was_idle(settings: Settings) -> None:
    from threading import Event

    from iot_platform.ingest.sink import BatchResult

    time = [NOW]
    held = Lease(needs_new_generation=False, lost=Event())
    log = ProgressLog(settings, "continuous", held, lambda: time[0])
    log.begin(1, {"t": {0: 0}}, {"t": 100})
    time[0] += timedelta(seconds=30)
    log.batch_begins(0)
    running = read_progress(settings)
    assert running and running.batch_running_since == iso(time[0]) and running.batch_id == 0
    log.batch(BatchResult(0, 600, 1200, 0, 0, {}, {"t": {0: (0, 60)}}), 2.5, {"messages": 600})
    first = read_progress(settings)
    assert first and (first.messages_per_second, first.rows_per_second, first.lag) == (20, 40, 40)
    assert (first.batch_seconds, first.batch_running_since, first.landed) == (2.5, None, {"messages": 600})
    assert not log.is_due
    time[0] += timedelta(seconds=61)
    assert log.is_due
    log.beat({"t": {0: 70}}, time[0] - timedelta(seconds=5))
    later = read_progress(settings)
    assert later and (later.messages_per_second, later.lag, later.beat_at) == (0, 10, iso(time[0]))
    assert later.advanced_at == iso(time[0] - timedelta(seconds=5)) and later.last_batch_at == first.last_batch_at
    assert later.rss_bytes > 10 << 20
    log.beat(None, NOW)
    assert (again := read_progress(settings)) and again.advanced_at == later.advanced_at
    held.lost.set()
    log.state("failed", "another took over")
    assert read_progress(settings) == again, "the file is another's by now"
