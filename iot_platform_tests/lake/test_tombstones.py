"""Tombstones: numbered, in force only once both Bronze tables say so, and of no use to anybody without their key."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from iot_platform.errors import InputError, PlatformError
from iot_platform.lake import Lake
from iot_platform.lake.erasures import TABLE, Erasure, read_erasures, write_erasure
from iot_platform.lake.tombstones import (
    TOMBSTONES,
    Tombstones,
    ensure_key,
    fingerprint_of,
    hash_of,
    in_force,
    key_file,
    put_in_force,
    read_key,
    read_tombstones,
)
from iot_platform_tests.conftest import MakeSettings

THEN = datetime(2026, 3, 20, tzinfo=UTC)


def erase(lake: Lake, device: str) -> Erasure:
    key = ensure_key(lake.settings)
    row = Erasure(0, hash_of(device, key), fingerprint_of(key), THEN, None, json.dumps({}), None, None, "t")
    written = write_erasure(lake, row)
    put_in_force(lake, written.number)
    return written


def test_a_lake_without_erasures_holds_nobody_and_needs_no_key(lake: Lake) -> None:
    found = read_tombstones(lake)
    assert found == Tombstones()
    assert not found.holds("d1")
    assert not key_file(lake.settings).exists()
    assert not lake.exists(TABLE)


def test_an_erased_device_is_known_and_no_other(lake: Lake) -> None:
    assert [erase(lake, device).number for device in ("d1", "d2")] == [1, 2]
    found = read_tombstones(lake)
    assert [found.holds(device) for device in ("d1", "d2", "d1", "d10", "d", "")] == [True, True, True, False, False, False]
    assert pickle.loads(pickle.dumps(found)).holds("d2")


def test_the_first_n_are_those_of_then(lake: Lake) -> None:
    for device in ("d1", "d2", "d3"):
        erase(lake, device)
    found = read_tombstones(lake)
    assert [found.first(2).holds(device) for device in ("d1", "d2", "d3")] == [True, True, False]
    assert found.first(0) == Tombstones((), found.key)
    assert found.first(9) is found


def test_a_row_without_its_transaction_is_not_in_force_and_one_said_again_keeps_its_number(lake: Lake) -> None:
    erase(lake, "d1")
    key = ensure_key(lake.settings)
    row = Erasure(0, hash_of("d2", key), fingerprint_of(key), THEN, None, "{}", None, None, "t")
    # What is left when it dies between the row and the transactions.
    assert write_erasure(lake, row).number == 2
    assert not read_tombstones(lake).holds("d2")
    assert erase(lake, "d2").number == 2
    assert read_tombstones(lake).holds("d2")
    assert in_force(lake) == lake.snapshot("bronze/quarantine").transaction(TOMBSTONES) == 2


def test_tombstones_never_go_back(lake: Lake) -> None:
    for device in ("d1", "d2"):
        erase(lake, device)
    version = lake.snapshot("bronze/readings").version
    put_in_force(lake, 1)
    assert in_force(lake) == 2
    assert lake.snapshot("bronze/readings").version == version


def test_no_file_of_the_lake_holds_the_id_or_the_key(lake: Lake) -> None:
    erase(lake, "device-of-somebody")
    key = ensure_key(lake.settings)
    files = [path for path in Path(lake.root).rglob("*") if path.is_file()]
    held = [path for path in files if b"device-of-somebody" in path.read_bytes() or key in path.read_bytes()]
    assert files
    assert held == []
    assert read_erasures(lake)[0].device_hash == hash_of("device-of-somebody", key)


def test_the_key_is_made_once_for_this_user_alone(make_settings: MakeSettings) -> None:
    settings = make_settings()
    assert read_key(settings) is None
    key = ensure_key(settings)
    assert len(key) == 64
    assert ensure_key(settings) == read_key(settings) == key
    assert key_file(settings).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.home.iterdir()] == ["erase.key"]
    chosen = make_settings(erase_key=SecretStr("chosen"))
    assert ensure_key(chosen) == b"chosen"


@pytest.mark.parametrize("other", [None, "another"])
def test_without_the_right_key_nothing_is_let_in_and_one_line_says_so(
    make_settings: MakeSettings, other: str | None
) -> None:
    lake = Lake(make_settings(erase_key=SecretStr("chosen")))
    erase(lake, "d1")
    changed = Lake(make_settings(erase_key=SecretStr(other or "")))
    with pytest.raises(InputError, match=r"IOT_ERASE_KEY") as caught:
        read_tombstones(changed)
    assert "d1" not in str(caught.value)
    assert "chosen" not in str(caught.value)


def test_a_key_that_cannot_be_read_is_said(make_settings: MakeSettings) -> None:
    settings = make_settings()
    key_file(settings).mkdir(parents=True)
    with pytest.raises(PlatformError, match="cannot be read"):
        read_key(settings)
