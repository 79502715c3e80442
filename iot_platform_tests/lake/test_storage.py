"""What a lake's address and the AWS settings become; no server answers."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from time import monotonic

import pytest

from iot_platform.errors import InputError, LakeError
from iot_platform.lake import Lake, storage
from iot_platform.lake.storage import Storage
from iot_platform.settings import Settings, load_settings
from iot_platform_tests.conftest import MakeSettings

KEYS = {"aws_access_key_id": "the-id", "aws_secret_access_key": "the-secret", "aws_session_token": "the-token"}
BOUNDS = {"connect_timeout": "3s", "timeout": "20s", "retry_timeout": "30s"}


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_told_in_time_and_stops_no_other_thread(
    silent: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONNECT_SECONDS", "REQUEST_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(storage, name, 1)
    lake = Lake(make_settings(lake="s3://bucket/x", aws_endpoint_url=silent, aws_allow_http=True, **KEYS))
    for ask in (lake.snapshot, lake.writable, lake.exists):
        turns = 0
        began = monotonic()
        with ThreadPoolExecutor(1) as other:
            asked = other.submit(ask, "gold/duration_p95")
            while not asked.done() and monotonic() - began < 30:
                wait([asked], timeout=0.05)
                turns += 1
            with pytest.raises(LakeError, match=r"s3://bucket/x/gold/duration_p95 cannot be reached .* Check IOT_LAKE"):
                asked.result(timeout=0)
        assert monotonic() - began < 15 and turns > 5, ask


def test_a_root_may_be_a_folder_or_an_address(settings: Settings, make_settings: MakeSettings) -> None:
    filesystem, path = Storage.of(settings).filesystem()
    assert (filesystem.type_name, path) == ("local", settings.lake_root)
    filesystem, path = Storage.of(make_settings(lake=f"file://{settings.lake_root}")).filesystem()
    assert (filesystem.type_name, path) == ("local", settings.lake_root)
    filesystem, path = Storage.of(make_settings(lake="s3://bucket/some/where/", aws_region="eu-west-1")).filesystem()
    assert (filesystem.type_name, path) == ("s3", "bucket/some/where")


def test_a_folder_needs_no_options_and_no_file_system(settings: Settings) -> None:
    assert Lake(settings).storage_options is None
    with Storage.of(settings).connect() as connection:
        assert connection.list_filesystems() == []
        assert connection.execute("select current_setting('TimeZone')").fetchall() == [("UTC",)]


def test_delta_and_arrow_are_told_the_same(make_settings: MakeSettings) -> None:
    settings = make_settings(
        lake="s3://bucket/x", aws_endpoint_url="http://127.0.0.1:9000/", aws_allow_http=True, aws_region="here", **KEYS
    )
    assert Lake(settings).storage_options == {
        "aws_conditional_put": "etag", "aws_endpoint_url": "http://127.0.0.1:9000", "aws_allow_http": "true",
        "aws_region": "here", **KEYS, **BOUNDS,
    }  # fmt: skip
    storage = Storage.of(settings)
    assert pickle.loads(pickle.dumps(storage)) == storage
    with storage.connect() as connection:
        storage.show_to(connection)  # a second time changes nothing
        assert len(connection.list_filesystems()) == 1


def test_on_aws_the_libraries_find_keys_and_region_themselves(make_settings: MakeSettings) -> None:
    assert Lake(make_settings(lake="s3://bucket/x")).storage_options == {"aws_conditional_put": "etag", **BOUNDS}


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"aws_access_key_id": "a"}, "belong together"),
        ({"aws_endpoint_url": "http://store:9000"}, "is not encrypted. Use https, or allow it with AWS_ALLOW_HTTP=true"),
        ({"aws_endpoint_url": "store:9000"}, "has no scheme"),
    ],
)
def test_what_cannot_work_is_said_at_once(make_settings: MakeSettings, chosen: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Lake(make_settings(lake="s3://bucket/x", **chosen))


def test_no_text_shows_a_secret(make_settings: MakeSettings) -> None:
    settings = make_settings(lake="s3://bucket/x", **KEYS)
    shown = f"{settings!r} {settings} {settings.model_dump_json()} {Storage.of(settings)!r}"
    assert not any(value in shown for value in KEYS.values())


def test_keys_come_from_the_environment_and_reach_child_processes(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "here")
    read = load_settings()
    assert (read.aws_region, read.aws_secret_access_key.get_secret_value()) == ("here", "the-secret")
    for name in KEYS:
        monkeypatch.delenv(name.upper())
    environment = make_settings(lake="s3://bucket/x", **KEYS).environment()
    assert {name: environment[name.upper()] for name in KEYS} == KEYS
    assert not any(name.startswith("IOT_AWS") for name in environment)
    assert "AWS_ACCESS_KEY_ID" not in make_settings().environment()
    monkeypatch.setenv("AWS_ALLOW_HTTP", "perhaps")
    with pytest.raises(InputError, match="^AWS_ALLOW_HTTP: "):
        load_settings()
