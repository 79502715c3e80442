"""Which checkpoints may be gone on with, and which offsets a batch of theirs covers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iot_platform.ingest.checkpoint import Checkpoint
from iot_platform.ingest.generation import fresh
from iot_platform.ingest.position import QUARANTINE, READINGS, Position, TablePosition
from iot_platform_tests.conftest import MakeSettings

TOPIC = "iot.readings"


def position(readings: int, quarantine: int) -> Position:
    """Both tables in generation 1 at these batches; -1: nothing committed yet."""
    return Position(
        {
            table: TablePosition({}, {1: batch} if batch >= 0 else {})
            for table, batch in ((READINGS, readings), (QUARANTINE, quarantine))
        }
    )


def write(path: Path, planned: int, done: int) -> Checkpoint:
    """A checkpoint as Spark leaves it: batches 0 … planned, each 10 offsets long, of which 0 … done are done."""
    for folder in ("offsets", "commits", "sources/0"):
        (path / folder).mkdir(parents=True, exist_ok=True)
    (path / "metadata").write_text('{"id":"1b5d"}')
    (path / "sources/0/0").write_text("v1\n" + json.dumps({TOPIC: {"0": 5, "1": 0}}))
    for batch in range(planned + 1):
        ends = json.dumps({TOPIC: {"0": 15 + 10 * batch, "1": 0}})
        (path / "offsets" / str(batch)).write_text(f"v1\n{{}}\n{ends}")
        (path / "offsets" / f".{batch}.crc").write_text("")
    for batch in range(done + 1):
        (path / "commits" / str(batch)).write_text("v1\n{}")
    return Checkpoint(path)


def test_a_batch_covers_from_the_end_before_to_its_own(tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "g1", 1, 0)
    assert checkpoint.range_of(0) == {TOPIC: {0: (5, 15), 1: (0, 0)}}
    assert checkpoint.range_of(1) == {TOPIC: {0: (15, 25), 1: (0, 0)}}


@pytest.mark.parametrize(
    ("planned", "done", "readings", "quarantine"),
    [(2, 2, 2, 2), (2, 1, 1, 1), (2, 1, 2, 1), (2, 1, 2, 2), (0, -1, -1, -1), (0, -1, 0, -1), (-1, -1, -1, -1)],
)
def test_one_that_fits_the_tables_is_gone_on_with(
    tmp_path: Path, planned: int, done: int, readings: int, quarantine: int
) -> None:
    assert write(tmp_path / "g1", planned, done).why_unusable(position(readings, quarantine), {TOPIC}) == ""


@pytest.mark.parametrize(("planned", "done", "batch"), [(2, 2, 5), (2, 2, -1), (3, 3, 2), (1, 0, 2)])
def test_one_that_does_not_fit_the_tables_is_not(tmp_path: Path, planned: int, done: int, batch: int) -> None:
    assert "fit" in write(tmp_path / "g1", planned, done).why_unusable(position(batch, batch), {TOPIC})


def test_one_that_is_gone_is_lost_only_if_something_was_committed(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "g1")
    assert checkpoint.why_unusable(position(-1, -1), {TOPIC}) == ""
    assert "gone" in checkpoint.why_unusable(position(0, -1), {TOPIC})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"other": 1}', "12"])
def test_damaged_metadata_is_noticed(tmp_path: Path, content: str) -> None:
    checkpoint = write(tmp_path / "g1", 1, 1)
    (checkpoint.path / "metadata").write_text(content)
    assert "metadata" in checkpoint.why_unusable(position(1, 1), {TOPIC})


def test_metadata_without_any_batch_is_looked_at_too(tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "g1", -1, -1)
    (checkpoint.path / "metadata").unlink()
    assert "metadata" in checkpoint.why_unusable(position(-1, -1), {TOPIC})


@pytest.mark.parametrize("log", ["offsets", "commits"])
def test_a_torn_log_entry_is_noticed(tmp_path: Path, log: str) -> None:
    checkpoint = write(tmp_path / "g1", 1, 1)
    (checkpoint.path / log / "1").write_bytes(b"\xff" if log == "commits" else b"v1\n{}")
    assert "damaged" in checkpoint.why_unusable(position(1, 1), {TOPIC})


def test_a_topic_that_is_no_longer_declared_needs_a_new_one(tmp_path: Path) -> None:
    assert "declared" in write(tmp_path / "g1", 1, 1).why_unusable(position(1, 1), {"other"})


def test_what_is_no_folder_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "g1").write_text("a file")
    assert "cannot be read" in Checkpoint(tmp_path / "g1").why_unusable(position(1, 1), {TOPIC})


def test_a_new_generation_never_meets_an_old_folder(make_settings: MakeSettings) -> None:
    settings = make_settings()
    folder = Checkpoint.of(settings, 2).path
    for _ in range(2):
        folder.mkdir(parents=True)
        (folder / "metadata").write_text("{}")
        assert fresh(settings, 2).is_absent
    assert sorted(path.name for path in folder.parent.iterdir()) == ["g2.aside1", "g2.aside2"]
