"""What no broker took is on disk, whole and in order, bounded, and one process at a time has it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot_platform.errors import PlatformError
from iot_platform.settings import Settings
from iot_platform.simulator.resend import resend
from iot_platform.simulator.spool import Outgoing, Spool, as_bytes, as_text, parse_line, try_alone, waiting_files
from iot_platform_tests.conftest import MakeSettings


def outgoing(text: bytes, **changes: object) -> Outgoing:
    return Outgoing("t", b"k", text, [("contract", b"x")], **changes)  # pyright: ignore[reportArgumentType]


@given(st.binary())
def test_any_bytes_come_back(data: bytes) -> None:
    assert as_bytes(as_text(data)) == data


@pytest.mark.parametrize("line", [b"", b'{"topic": "t", "key"', b"[]", b'{"topic": "t", "key": {"base64": "?"}}', b"\xff"])
def test_a_torn_line_is_no_message(line: bytes) -> None:
    assert parse_line(line) is None


def test_messages_are_kept_in_their_order_across_runs_and_a_torn_line_is_glued_to_none(settings: Settings) -> None:
    spool = Spool(settings, "r")
    spool.keep(outgoing(b"1"), "away")
    spool.close()
    with spool.path.open("ab") as file:
        file.write(b'{"topic": "t", "ke')  # the process died here
    again = Spool(settings, "r")
    again.keep(outgoing(b"\xff2"), "away")
    again.close()
    lines = [parse_line(line) for line in spool.path.read_bytes().splitlines()]
    assert lines == [outgoing(b"1"), None, outgoing(b"\xff2")]
    assert again.waiting == 3 and waiting_files(settings) == [spool.path]


def test_one_process_at_a_time_has_a_file(settings: Settings) -> None:
    spool = Spool(settings, "r")
    spool.keep(outgoing(b"1"), "away")
    assert try_alone(spool.path) is None
    spool.close()
    fd = try_alone(spool.path)
    assert fd is not None
    assert try_alone(spool.path) is None
    os.close(fd)
    assert try_alone(spool.path.with_name("other.jsonl")) is None


def test_a_full_spool_says_so_and_counts_what_other_runs_left(make_settings: MakeSettings) -> None:
    settings = make_settings(spool_megabytes=1)
    first, second = Spool(settings, "a"), Spool(settings, "b")
    first.keep(outgoing(b"x" * 600_000), "away")
    assert not first.is_full and not second.is_full
    second.keep(outgoing(b"x" * 600_000), "away")
    assert second.is_full
    second.keep(outgoing(b"what was taken in is kept nevertheless"), "away")
    assert second.waiting == 2


def test_a_disk_that_is_full_is_told_and_leaves_no_half_of_a_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(settings, "r")
    spool.keep(outgoing(b"1"), "away")
    whole = spool.path.read_bytes()
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(PlatformError, match="no broker took is lost: No space left"):
        spool.keep(outgoing(b"2"), "away")
    assert spool.path.read_bytes() == whole

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(PlatformError, match="Free space"):
        spool.keep(outgoing(b"2"), "away")
    assert spool.path.read_bytes() == whole


def test_nothing_that_waits_needs_no_broker(settings: Settings) -> None:
    assert resend(settings).read == 0


def test_a_folder_that_cannot_be_made_is_one_line(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    Path(settings.home / "undelivered").write_text("a file where the folder should be")
    with pytest.raises(PlatformError, match="undelivered cannot be made"):
        Spool(settings, "r").keep(outgoing(b"1"), "away")
