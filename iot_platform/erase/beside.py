"""What lies beside the lake, under ``IOT_HOME``, and names the device: taken out where it is the platform's own, else told.

What belongs here: which folder is dealt with how. Kafka's data is not: its messages expire by the topic's retention.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from iot_platform.erase.contents import Disk, bytes_name
from iot_platform.erase.trace import Trace
from iot_platform.settings import Settings
from iot_platform.simulator.spool import try_alone

LINES_GO = {"truth", "undelivered", "rejects"}  # a message a line: it goes whole, unless a run has the file
WORDS_GO = {"reports", "alerts"}  # written by one program at a time, read by people
MASKED = {"logs", "marts"}  # written on by processes that run: only as many bytes are put there as were
# The lake and the published marts are verified on their own; Kafka's data expires; keys and jars hold no readings.
PASSED = {"lake", "services", "java", "erase", "checkpoints"}
DATABASES = (".duckdb", ".wal", ".db-wal", ".db-shm", ".db-journal")  # looked into through what they belong to, or elsewhere
IN_USE = "a run is using it; run it again when that has ended"


@dataclass(frozen=True)
class Cleaned:
    """A file from which the device was taken, and how often; or one in which it is left, and why (``todo``)."""

    path: str
    places: int = 0
    todo: str = ""


def clean_beside(settings: Settings, trace: Trace) -> list[Cleaned]:
    """Take the device out of all files beside the lake that are the platform's own; of the others say what to do."""
    return [_clean(settings, path, trace) for path in _files(settings) if _names(path, trace)]


def _files(settings: Settings) -> Iterator[Path]:
    lake = Path(settings.lake_root)
    for folder, names, files in os.walk(settings.home):
        names[:] = sorted(
            name for name in names
            if not (Path(folder) == settings.home and name in PASSED) and Path(folder, name) != lake
        )  # fmt: skip
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and not path.name.endswith(DATABASES):
                yield path


def _names(path: Path, trace: Trace) -> bool:
    # What a database was told last stands in the file beside it.
    beside = [path.with_name(f"{path.name}-wal")] if path.suffix == ".db" else []
    try:
        return any(bytes_name(Disk(), str(one), trace) for one in [path, *beside] if one.exists())
    except OSError:  # gone meanwhile, or not ours to read
        return False


def _clean(settings: Settings, path: Path, trace: Trace) -> Cleaned:
    shown = str(path.relative_to(settings.home))
    part = path.relative_to(settings.home).parts[0]
    if not trace.is_distinct:
        return Cleaned(shown, todo="the id may be a word or a number there: look yourself")
    try:
        if part in LINES_GO:
            taken = _without_lines(path, trace)
            return Cleaned(shown, todo=IN_USE) if taken is None else Cleaned(shown, taken)
        if part in WORDS_GO:
            return Cleaned(shown, _redacted(path, trace))
        if part in MASKED:
            return Cleaned(shown, _masked(path, trace))
        if part == "dagster":
            return Cleaned(shown, (_in_database if path.suffix == ".db" else _masked)(path, trace))
    except (OSError, sqlite3.Error) as error:
        return Cleaned(shown, todo=f"could not be cleaned ({error}); run it again")
    if part == "registry" and path.suffix == ".csv":
        lines = [str(number) for number, line in enumerate(_lines(path), start=1) if trace.is_in(line)]
        return Cleaned(shown, todo=f"remove line {', '.join(lines)}; until then it is not heeded")
    return Cleaned(shown, todo="not the platform's to change: remove it, or the device from it")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)


def _without_lines(path: Path, trace: Trace) -> int | None:
    """None: a run has the file, and would go on writing to the one that was taken away."""
    fd = try_alone(path)
    if fd is None:
        return None if path.exists() else 0
    with os.fdopen(fd, "rb") as file:
        lines = file.readlines()
        kept = [line for line in lines if not trace.is_in(line)]
        _replace(path, b"".join(kept))
    return len(lines) - len(kept)


def _redacted(path: Path, trace: Trace) -> int:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    _replace(path, trace.redacted(text).encode("utf-8", "surrogateescape"))
    return len(trace.places(text))


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.chmod(path.stat().st_mode & 0o777)
    part.replace(path)


def _masked(path: Path, trace: Trace) -> int:
    """Asterisks over each trace, in place: a program that writes on at the end is not disturbed."""
    with path.open("r+b") as file:
        # Latin-1 has a character a byte: the places are those of the bytes.
        places = trace.places(file.read().decode("latin-1"))
        for start, end in places:
            file.seek(start)
            file.write(b"*" * (end - start))
    return len(places)


def _in_database(path: Path, trace: Trace) -> int:
    """In every text of a database of Dagster's: previews of rows, descriptions of checks. Pages that became free go too."""
    changed = 0
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.create_function("redacted", 1, lambda text: trace.redacted(text) if isinstance(text, str) else text)
        connection.create_function("names", 1, lambda text: isinstance(text, str) and trace.is_in(text))
        tables = connection.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'")
        for (table,) in tables.fetchall():
            for _, column, kind, *_ in connection.execute(f'pragma table_info("{table}")').fetchall():
                if kind.upper().startswith(("TEXT", "VARCHAR")):
                    changed += connection.execute(
                        f'update "{table}" set "{column}" = redacted("{column}") where names("{column}")'
                    ).rowcount
        connection.commit()
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)")
    return changed
