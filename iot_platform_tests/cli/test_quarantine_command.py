"""``iot quarantine``: lists, shows and redrives; tables for people, JSON alone for programs, mistakes in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iot_platform.cli.quarantine import _told
from iot_platform.ingest.redrive import RedriveResult
from iot_platform.lake import Lake
from iot_platform.settings import Settings
from iot_platform_tests.cli.conftest import Iot
from iot_platform_tests.contracts.messages import TOPIC_OF, message
from iot_platform_tests.ingest.landed import Landed
from iot_platform_tests.ingest.test_redrive import EVENT, event, mend

__all__ = ["mend"]  # a fixture

SENSOR = TOPIC_OF["sensor_reading"]


@pytest.fixture
def filled(settings: Settings) -> Lake:
    """Seven messages in quarantine: of two topics, two dates of arrival, and two reasons."""
    lake = Lake(settings)
    landed = Landed(lake)
    landed.land([event(0), event(1), event(2)], EVENT)
    headers = [("source", b"a.csv"), ("odd", None)]
    landed.land([b'{"sensor_id": "\xff[bold]"}', b"[", message("sensor_reading")], headers=headers)
    landed.land([b"{", None], arrival_us=1_795_200_000_000_000)
    return lake


def test_list_shows_what_waits_newest_first(iot: Iot, filled: Lake) -> None:
    found = iot("quarantine", "list", "--json").json
    assert [one["id"] for one in found][:2] == [f"{SENSOR}/0/4", f"{SENSOR}/0/3"]
    assert len(found) == 7
    assert {key: found[1][key] for key in ("topic", "partition", "offset", "reason", "size", "redriven_at")} == {
        "topic": SENSOR, "partition": 0, "offset": 3, "reason": "not_json", "size": 1, "redriven_at": None,
    }  # fmt: skip
    assert found[1]["arrived_at"] == "2026-11-20T18:40:00Z"
    shown = iot("quarantine", "list", "--limit", "2")
    assert f"{SENSOR}/0/4" in shown.out
    assert "the newest 2; --limit 0 shows all" in shown.out


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--reason", "wrong_type"), 3),
        (("--reason", "wrong_type", "--reason", "not_utf8"), 4),
        (("--date", "2026-11-20"), 2),
        (("--from", "2026-11-19", "--to", "2026-11-20"), 7),
        (("--topic", SENSOR), 4),
        (("--topic", SENSOR, "--date", "2026-11-19"), 2),
        (("--limit", "1"), 1),
        (("--limit", "0"), 7),
        (("--date", "2001-01-01"), 0),
    ],
)
def test_list_takes_filters(iot: Iot, filled: Lake, options: tuple[str, ...], count: int) -> None:
    assert len(iot("quarantine", "list", *options, "--json").json) == count


def test_counts_by_reason_date_and_topic(iot: Iot, filled: Lake, mend: Callable[[], None]) -> None:
    mend()
    iot("quarantine", "redrive", f"{TOPIC_OF[EVENT]}/0/1")
    by = {by: iot("quarantine", "list", "--by", by, "--json").json for by in ("reason", "date", "topic")}
    assert [(row["reason"], row["waiting"], row["redriven"]) for row in by["reason"]] == [
        ("not_json", 3, 0), ("wrong_type", 2, 1), ("not_utf8", 1, 0),
    ]  # fmt: skip
    assert [(row["date"], row["waiting"]) for row in by["date"]] == [("2026-11-19", 4), ("2026-11-20", 2)]
    assert {row["topic"]: row["waiting"] for row in by["topic"]} == {SENSOR: 4, TOPIC_OF[EVENT]: 2}
    assert "wrong_type" in iot("quarantine", "list", "--by", "reason").out


def test_show_gives_the_bytes_as_text_and_hex(iot: Iot, filled: Lake) -> None:
    shown = iot("quarantine", "show", f"{SENSOR}/0/0")
    assert shown.code == 0
    assert "reason: not_utf8: byte 15 is no UTF-8" in shown.out
    assert '{"sensor_id": "\\xff[bold]"}' in shown.out
    assert "00000000  7b 22 73 65 6e 73 6f 72 5f 69 64 22 3a 20 22 ff" in shown.out
    assert "header source: a.csv" in shown.out
    assert "header odd: -" in shown.out
    whole = iot("quarantine", "show", f"{SENSOR}/0/0", "--json").json
    assert bytes.fromhex(whole["value"]["hex"]) == b'{"sensor_id": "\xff[bold]"}'
    assert whole["key"] == {"text": "key", "hex": "6b6579"}
    assert whole["headers"][1] == {"name": "odd", "text": None, "hex": None}
    assert "value: none (a tombstone" in iot("quarantine", "show", f"{SENSOR}/0/4").out


def test_nothing_that_a_sender_wrote_steers_the_terminal(iot: Iot, settings: Settings) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\nkey: forged"
    raw = evil.encode()
    Landed(Lake(settings)).land([raw], headers=[(evil, raw), ("contract", raw)], key=raw)
    shown = iot("quarantine", "show", f"{SENSOR}/0/0").out
    assert all(char.isprintable() for line in shown.split("\n") for char in line)
    assert sum(line.startswith("key: ") for line in shown.splitlines()) == 1
    whole = iot("quarantine", "show", f"{SENSOR}/0/0", "--json").json
    assert whole["key"]["hex"] == raw.hex() and whole["headers"][0]["name"] == evil  # for programs, as it came


def test_a_redrive_says_what_is_left_to_mark_and_not_what_another_marked() -> None:
    overtaken = RedriveResult(chosen=3, redriven=2, healed=1)
    assert list(_told(overtaken, dry_run=False))[1:] == [
        "redriven: 2 (0 readings, 0 of the messages late)", "were in Bronze already: 1", "still refused: 0",
    ]  # fmt: skip
    crowded = RedriveResult(chosen=3, redriven=3, unmarked=3)
    assert "others were writing: 3; the next redrive" in list(_told(crowded, dry_run=False))[-1]


def test_show_cuts_a_large_value_unless_told_otherwise(iot: Iot, settings: Settings) -> None:
    Landed(Lake(settings)).land([b"x" * 5_000])
    assert "5,000 bytes, the first 1,024 of them" in iot("quarantine", "show", f"{SENSOR}/0/0").out
    assert "x" * 5_000 in iot("quarantine", "show", f"{SENSOR}/0/0", "--full").out


def test_redrive_brings_what_was_mended(iot: Iot, filled: Lake, mend: Callable[[], None]) -> None:
    mend()
    dry = iot("quarantine", "redrive", "--all", "--dry-run", "--json").json
    assert (dry["dry_run"], dry["redriven"], dry["marked"]) == (True, 3, 0)
    ran = iot("quarantine", "redrive", "--reason", "wrong_type")
    assert "redriven: 3 (3 readings, 0 of the messages late)" in ran.out
    assert "2026-11-19: 3 readings" in ran.out
    again = iot("quarantine", "redrive", "--all", "--json").json
    assert (again["redriven"], again["refused"]) == (0, {"not_json": 3, "not_utf8": 1})
    assert len(iot("quarantine", "list", "--json").json) == 4
    everything = iot("quarantine", "list", "--all", "--json").json
    assert sum(one["redriven_at"] is not None for one in everything) == 3
    offsets = iot("status", "--json").json["offsets"]
    assert (offsets["redriven"], offsets["balanced"]) == (3, True)
    assert "- 3 redriven" in iot("status").out


def test_an_empty_lake_has_an_empty_quarantine(iot: Iot) -> None:
    assert iot("quarantine", "list", "--json").json == []
    assert iot("quarantine", "redrive", "--all", "--json").json["chosen"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("redrive",), "say which messages"),
        (("redrive", f"{SENSOR}/0/99"), f"quarantine holds no message {SENSOR}/0/99"),
        (("redrive", "17"), "'17' names no message"),
        (("show", "a/b/c"), "Write topic/partition/offset"),
        (("show", f"{SENSOR}/0/99"), "quarantine holds no message"),
        (("list", "--reason", "bad_luck"), "there is no reason 'bad_luck'"),
        (("list", "--date", "2026-11-19", "--from", "2026-11-18"), "Give one or the other"),
        (("list", "--date", "tomorrow"), "--date 'tomorrow' is no date"),
        (("list", "--from", "2026-13-40"), "--from '2026-13-40' is no date"),
        (("list", "--to", "2026-13-40"), "--to '2026-13-40' is no date"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(iot: Iot, filled: Lake, arguments: tuple[str, ...], said: str) -> None:
    ran = iot("quarantine", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert len([line for line in ran.err.splitlines() if line.strip()]) == 1


@pytest.mark.parametrize("command", ["list", "show", "redrive"])
def test_every_command_has_help_with_an_example(iot: Iot, command: str) -> None:
    shown = iot("quarantine", command, "--help")
    assert shown.code == 0
    assert "Example: iot quarantine" in " ".join(shown.out.split())
