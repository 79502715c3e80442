"""Jars come by hash or not at all: against a real HTTP server that can lie, stop in the middle, and be away."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.local import fetch_jars, jars, lock_jars
from iot_platform.local.jars import Jar, fetch, missing, read_lock, repository
from iot_platform_tests.conftest import MakeSettings

GOOD = b"the right bytes" * 5000


class Repository(http.server.ThreadingHTTPServer):
    """Serves ``GOOD`` at every address, unless told to lie, to break off, or to fail some times first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.body = GOOD
        self.break_off_after: int | None = None
        self.failures: list[int] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/maven"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Repository  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.failures:
            self.send_error(self.server.failures.pop(0))
            return
        body = pom(self.path) if self.path.endswith(".pom") else self.server.body
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.break_off_after])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on the terminal."""


def pom(path: str) -> bytes:
    """The project file of the artifact at that path; Kafka's needs log4j's core, the others nothing."""
    *group, artifact, version, _ = path.removeprefix("/maven/").split("/")
    needs = "<groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.9</version>"
    dependencies = f"<dependency>{needs}</dependency>" if artifact.startswith("kafka") else ""
    return (
        "<project><modelVersion>4.0.0</modelVersion>"
        f"<groupId>{'.'.join(group)}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    ).encode()


@pytest.fixture
def server() -> Iterator[Repository]:
    with Repository() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


def jar(name: str = "one") -> Jar:
    return Jar(f"org.example.group:{name}:1.0", hashlib.sha256(GOOD).hexdigest())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_missing_jars_are_fetched_once_and_kept(make_settings: MakeSettings, server: Repository, tmp_path: Path) -> None:
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository=server.address + "/")
    wanted = [jar("one"), jar("two"), jar("three")]
    arrived: list[int] = []
    assert fetch(settings, wanted, on_bytes=arrived.append) == 3
    assert sum(arrived) == 3 * len(GOOD)
    assert sorted(server.asked)[0] == "/maven/org/example/group/one/1.0/one-1.0.jar"
    assert fetch(settings, wanted) == 0
    assert len(server.asked) == 3
    assert files(tmp_path / "cache") == ["one-1.0.jar", "three-1.0.jar", "two-1.0.jar"]


def test_a_cached_jar_that_rotted_is_fetched_again(
    make_settings: MakeSettings, server: Repository, tmp_path: Path
) -> None:
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository=server.address)
    fetch(settings, [jar()])
    (tmp_path / "cache" / jar().path).write_bytes(b"half of i")
    assert missing(settings, [jar()]) == [jar()]
    fetch(settings, [jar()])
    assert (tmp_path / "cache" / jar().path).read_bytes() == GOOD


def test_a_wrong_hash_stops_with_one_line_and_leaves_nothing(
    make_settings: MakeSettings, server: Repository, tmp_path: Path
) -> None:
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository=server.address)
    server.body = b"something else"
    with pytest.raises(PlatformError) as raised:
        fetch(settings, [jar()])
    message = str(raised.value)
    assert "org.example.group:one:1.0" in message and "\n" not in message
    assert jar().sha256 in message and hashlib.sha256(b"something else").hexdigest() in message
    assert files(tmp_path / "cache") == []


def test_a_connection_that_breaks_off_leaves_no_half_file(
    make_settings: MakeSettings, server: Repository, tmp_path: Path
) -> None:
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository=server.address)
    server.break_off_after = 1000
    with pytest.raises(ServiceError, match="cannot fetch .*one-1.0.jar"):
        fetch(settings, [jar()])
    assert len(server.asked) == jars.ATTEMPTS
    assert files(tmp_path / "cache") == []


def test_a_server_that_stumbles_is_asked_again(make_settings: MakeSettings, server: Repository, tmp_path: Path) -> None:
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository=server.address)
    server.failures = [503, 502]
    assert fetch(settings, [jar()]) == 1


def test_a_jar_that_is_not_there_is_asked_for_once(
    make_settings: MakeSettings, server: Repository, tmp_path: Path
) -> None:
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository=server.address)
    server.failures = [404]
    with pytest.raises(ServiceError, match="404 Not Found. Check the network"):
        fetch(settings, [jar()])
    assert len(server.asked) == 1


def test_without_a_network_one_line_says_so(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository="http://127.0.0.1:9")
    with pytest.raises(ServiceError, match="Connection refused. Check the network"):
        fetch(settings, [jar()])


def test_an_interrupted_fetch_ends_the_others(make_settings: MakeSettings, server: Repository, tmp_path: Path) -> None:
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository=server.address)

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(settings, [jar(f"jar{number}") for number in range(30)], on_bytes=interrupt)
    assert files(tmp_path / "cache") == []
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(ServiceError, match="interrupted"):
        jars.download(f"{server.address}/x", tmp_path / "x", stopped)


def test_a_cache_that_cannot_be_written_is_said_in_one_line(make_settings: MakeSettings) -> None:
    with pytest.raises(PlatformError, match="cannot be written: Not a directory. Set IOT_JAR_CACHE"):
        fetch(make_settings(jar_cache=Path("/dev/null/cache")), [jar()])


def test_the_repository_is_the_setting_then_the_users_mirror_then_the_central_one(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    central = repository(make_settings())
    assert central.startswith("https://")
    (tmp_path / ".m2").mkdir()
    settings_file = tmp_path / ".m2" / "settings.xml"
    mirror = "<mirror><mirrorOf>{of}</mirrorOf><url> http://mirror.example/m2/ </url></mirror>"
    frame = '<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><mirrors>{}</mirrors></settings>'
    for of, expected in [
        ("central", "http://mirror.example/m2"),
        ("*", "http://mirror.example/m2"),
        ("other", central),
        ("*,!central", central),
    ]:
        settings_file.write_text(frame.format(mirror.format(of=of)))
        assert repository(make_settings()) == expected
    settings_file.write_text("<settings")
    assert repository(make_settings()) == central
    assert repository(make_settings(maven_repository="http://mine/")) == "http://mine"


def test_the_lock_names_every_jar_with_its_hash_and_no_address() -> None:
    lock = read_lock()
    assert set(lock) == {"kafka", "s3", "s3a", "spark"}
    assert {name for jar in lock["spark"] for name in [jar.coordinates]} == set(lock_jars.SPARK)
    assert lock_jars.KAFKA in {jar.coordinates for jar in lock["kafka"]}
    assert lock_jars.S3 in {jar.coordinates for jar in lock["s3"]}
    assert all(jar.coordinates.startswith(lock_jars.S3_LOADS) for jar in lock["s3"])
    names = {group: [jar.coordinates for jar in found] for group, found in lock.items()}
    assert set(names["s3a"]) == set(lock_jars.s3a(names["s3"])), "both share the SDK's files"
    assert all(len(jar.sha256) == 64 for group in lock.values() for jar in group)
    assert "//" not in jars.LOCK_FILE.read_text()
    assert lock_jars.lock_text({group: list(found) for group, found in lock.items()}) == jars.LOCK_FILE.read_text()


def test_a_broken_lock_says_which_line(tmp_path: Path) -> None:
    path = tmp_path / "jars.lock"
    path.write_text("# comment\n[kafka]\norg.example:one:1.0\n")
    with pytest.raises(PlatformError, match=r"jars.lock, line 3: .*make lock"):
        read_lock(path)


def test_renewing_the_lock_resolves_kafka_and_writes_what_the_repository_serves(
    make_settings: MakeSettings, server: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    path = tmp_path / "jars.lock"
    assert lock_jars.renew(make_settings(maven_repository=server.address), path) == (
        3 + 1 + len(lock_jars.S3A) + len(lock_jars.SPARK)
    )
    lock = read_lock(path)
    assert {jar.coordinates for jar in lock["kafka"]} == {
        lock_jars.KAFKA,
        "org.apache.logging.log4j:log4j-core:2.9",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.9",
    }
    assert {jar.sha256 for group in lock.values() for jar in group} == {hashlib.sha256(GOOD).hexdigest()}


def test_progress_ends_with_one_line(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, server: Repository, tmp_path: Path
) -> None:
    monkeypatch.setattr(fetch_jars, "read_lock", lambda: {"a": (jar("one"),), "b": (jar("two"), jar("one")), "s3": ()})
    settings = make_settings(jar_cache=tmp_path / "cache", maven_repository=server.address)
    console = Console(record=True, width=200)
    assert fetch_jars.fetch_with_progress(settings, console, ["a"]) == 1
    assert fetch_jars.fetch_with_progress(settings, console) == 1
    assert fetch_jars.fetch_with_progress(settings, console) == 0
    assert [line[:25] for line in console.export_text().splitlines()] == ["1 jars fetched and verifi"] * 2


def test_the_command_to_fetch_ends_with_the_errors_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch_jars, "read_lock", lambda: {"a": (jar("one"),)})
    monkeypatch.setenv("IOT_JAR_CACHE", "/dev/null/cache")
    assert fetch_jars.main() == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.setattr(fetch_jars, "read_lock", dict)
    assert fetch_jars.main() == 0
