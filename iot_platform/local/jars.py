"""The jars that Kafka, Spark and the tests' S3 server need: pinned in ``jars.lock`` by coordinates and sha256.

They are fetched when missing and lie in a cache that all clones share, in a Maven repository's own layout. Nothing is
used whose hash is not the locked one, and nothing half fetched is ever at its final name.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.settings import Settings

LOCK_FILE = Path(__file__).with_name("jars.lock")
# Groups that are fetched when they are needed: the tests' S3 server, and Spark's client of a lake in a bucket.
ON_DEMAND = frozenset({"s3", "s3a"})
ATTEMPTS = 3
CONNECTIONS = 8
TIMEOUT_SECONDS = (10, 60)  # to connect, between two pieces of an answer
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, order=True)
class Jar:
    """One jar: ``group:artifact:version`` and the sha256 of its bytes, in hex."""

    coordinates: str
    sha256: str

    @property
    def path(self) -> str:
        """Where it lies in a Maven repository, and in the cache."""
        group, artifact, version = self.coordinates.split(":")
        return f"{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.jar"


def read_lock(path: Path = LOCK_FILE) -> dict[str, tuple[Jar, ...]]:
    """The locked jars by group (``kafka``, ``spark``, ``s3``, ``s3a``)."""
    groups: dict[str, list[Jar]] = {}
    jars: list[Jar] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if line.startswith("[") and line.rstrip().endswith("]"):
            jars = groups.setdefault(line.strip()[1:-1], [])
        elif len(words) == 2 and words[0].count(":") == 2 and words[1].startswith("sha256:"):
            jars.append(Jar(words[0], words[1].removeprefix("sha256:")))
        else:
            raise PlatformError(
                f"{path}, line {number}: not group:artifact:version sha256:…", "Renew it with `make lock`"
            )
    return {group: tuple(jars) for group, jars in groups.items()}


def jar_files(settings: Settings, group: str) -> list[Path]:
    """The group's jars as files, each with the locked hash; what is missing is fetched first."""
    fetch_group(settings, group)
    return group_files(settings, group)


def group_files(settings: Settings, group: str) -> list[Path]:
    """Where the group's jars lie, or will."""
    return [settings.jar_cache / jar.path for jar in read_lock()[group]]


def fetch_group(settings: Settings, group: str) -> int:
    """Fetch what the cache lacks of the group; the number of jars fetched. Raises as ``fetch`` does."""
    return fetch(settings, read_lock()[group])


def missing(settings: Settings, jars: Iterable[Jar]) -> list[Jar]:
    """The jars that the cache does not hold with the locked hash."""
    return [jar for jar in jars if _sha256(settings.jar_cache / jar.path) != jar.sha256]


def fetch(settings: Settings, jars: Iterable[Jar], on_bytes: Callable[[int], None] | None = None) -> int:
    """Bring the jars that are missing into the cache, several at once; the number of jars fetched.

    ``on_bytes`` is called, from several threads, with the size of each piece that arrived. Raises ``PlatformError``
    for a wrong hash, ``ServiceError`` when the repository does not answer or does not have the jar.
    """
    wanted = missing(settings, jars)
    if not wanted:
        return 0
    base = repository(settings)
    stop = threading.Event()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = [pool.submit(_fetch_one, base, jar, settings.jar_cache, stop, on_bytes) for jar in wanted]
        try:
            for future in futures:
                future.result()
        finally:
            stop.set()  # after an error or Ctrl-C the others end soon; at the normal end all are done
            pool.shutdown(cancel_futures=True)
    return len(wanted)


def repository(settings: Settings) -> str:
    """The Maven repository's base address: ``IOT_MAVEN_REPOSITORY``, the user's Maven mirror, or the central one."""
    if settings.maven_repository:
        return settings.maven_repository.rstrip("/")
    mirror = _mirror(Path("~/.m2/settings.xml").expanduser())
    if mirror:
        return mirror.rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL

    return MAVEN_CENTRAL_URL


def _mirror(maven_settings: Path) -> str:
    """The mirror of the central repository that a Maven settings file names, else an empty text."""
    try:
        root = ET.parse(maven_settings).getroot()
    except (OSError, ET.ParseError):
        return ""
    for mirror in root.iterfind(".//{*}mirrors/{*}mirror"):
        mirrored = {part.strip() for part in (mirror.findtext("{*}mirrorOf") or "").split(",")}
        if mirrored & {"*", "central", "external:*", "external:http:*"} and "!central" not in mirrored:
            return (mirror.findtext("{*}url") or "").strip()
    return ""


def _fetch_one(
    base: str, jar: Jar, cache: Path, stop: threading.Event, on_bytes: Callable[[int], None] | None
) -> None:
    target = cache / jar.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
    except OSError as error:
        raise PlatformError(
            f"the jar cache {cache} cannot be written: {error.strerror}", "Set IOT_JAR_CACHE to a folder of yours"
        ) from None
    try:
        got = download(f"{base}/{jar.path}", part, stop, on_bytes)
        if got != jar.sha256:
            raise PlatformError(
                f"jar {jar.coordinates}: sha256 is {got}, expected {jar.sha256}; it was thrown away",
                f"Do not use {base} before you know why, or take another repository by IOT_MAVEN_REPOSITORY",
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def download(
    address: str, target: Path, stop: threading.Event | None = None, on_bytes: Callable[[int], None] | None = None
) -> str:
    """Fetch one file, trying again when the connection breaks; the sha256 of what arrived, in hex."""
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _download_once(address, target, stop or threading.Event(), on_bytes)
        except requests.RequestException as error:
            answered = error.response is not None and error.response.status_code < 500
            if attempt == ATTEMPTS or answered:
                raise ServiceError(
                    f"cannot fetch {address}: {_reason(error)}",
                    "Check the network, or name a repository that you reach by IOT_MAVEN_REPOSITORY; then run this again",
                ) from None
    raise AssertionError("unreachable: the last attempt returns or raises")


def _download_once(
    address: str, target: Path, stop: threading.Event, on_bytes: Callable[[int], None] | None
) -> str:
    import requests

    digest = hashlib.sha256()
    with requests.get(address, stream=True, timeout=TIMEOUT_SECONDS) as answer, target.open("wb") as file:
        answer.raise_for_status()
        for chunk in answer.iter_content(CHUNK_BYTES):
            if stop.is_set():
                raise ServiceError(f"fetching {address} was interrupted", "Run it again")
            file.write(chunk)
            digest.update(chunk)
            if on_bytes:
                on_bytes(len(chunk))
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """The innermost cause, in one line: the outer ones repeat addresses and object names."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{response.status_code} {response.reason}"
    text = str(error)
    return text.rsplit(": ", 1)[-1].strip("'\")> ") or type(error).__name__


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
