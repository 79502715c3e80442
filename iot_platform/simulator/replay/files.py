"""Which files a replay reads, and their bytes: found under a path, unpacked, with the variables that their path holds."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast

from iot_platform.errors import InputError
from iot_platform.simulator.replay.mapping import VARIABLE, Mapping

PACKED = {".gz", ".zst"}
Format = Literal["csv", "jsonl", "parquet"]
_FORMATS: dict[str, Format] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".data": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


@dataclass(frozen=True)
class SourceFile:
    """One file to replay. ``name``: its path below the folder that was given, as ``source`` tells it."""

    path: Path
    name: str
    format: Format
    variables: dict[str, str]


def find_files(root: Path, mapping: Mapping) -> list[SourceFile]:
    """The files of a replay by name; ``InputError`` when there is none or a path does not fit the pattern."""
    try:
        paths = [root] if root.is_file() else sorted(_below(root, mapping.files))
    except OSError as error:
        raise InputError(f"{root}: {error.strerror}", "Give a file or folder that can be read") from None
    if not root.exists():
        raise InputError(f"{root}: no such file or folder", "Give the path of your data")
    if not paths:
        wanted = f"matches {mapping.files!r}" if mapping.files else "is CSV, Parquet or JSON lines"
        raise InputError(f"no file under {root} {wanted}", "Give another path, or correct files in the mapping")
    pattern = _pattern(mapping.path)
    return [
        SourceFile(
            path,
            path.name if path == root else path.relative_to(root).as_posix(),
            _FORMATS.get(_bare(path).suffix.lower(), "csv"),
            _variables(path, mapping.path, pattern),
        )
        for path in paths
    ]


def _below(root: Path, glob: str) -> Iterator[Path]:
    for path in root.glob(glob or "**/*"):
        if path.is_file() and (glob or _bare(path).suffix.lower() in _FORMATS):
            yield path


def _bare(path: Path) -> PurePosixPath:
    """The path without the ending of its compression."""
    pure = PurePosixPath(path.as_posix())
    return pure.with_suffix("") if pure.suffix.lower() in PACKED else pure


def _pattern(text: str) -> re.Pattern[str] | None:
    """The mapping's ``path`` as an expression over the last pieces of a file's path."""
    if not text:
        return None
    parts = VARIABLE.split(text.strip("/"))
    names = parts[1::2]
    if len(set(names)) != len(names) or not all(name.isidentifier() for name in names):
        raise InputError(f"path: {text!r}: each variable needs a name of its own, like {{room}}", "Correct the mapping")
    pieces = [f"(?P<{part}>[^/]+?)" if index % 2 else re.escape(part) for index, part in enumerate(parts)]
    return re.compile(f"(?:.*/)?{''.join(pieces)}")


def _variables(path: Path, text: str, pattern: re.Pattern[str] | None) -> dict[str, str]:
    if pattern is None:
        return {}
    for candidate in (path.absolute().as_posix(), str(_bare(path.absolute()))):
        match = pattern.fullmatch(candidate)
        if match:
            return match.groupdict()
    raise InputError(f"{path} does not fit path: {text!r}", "Correct path or files in the mapping")


@contextmanager
def opened(source: SourceFile) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked; ``InputError`` when it cannot be read."""
    try:
        file = source.path.open("rb")
    except OSError as error:
        raise unreadable(source, error) from None
    with file:
        match source.path.suffix.lower():
            case ".gz":
                yield cast("IO[bytes]", gzip.GzipFile(fileobj=file))
            case ".zst":
                yield io.BufferedReader(_ZstdFile(file), 1 << 20)
            case _:
                yield file


class _ZstdFile(io.RawIOBase):
    """Unpacks zstd, frame after frame; says when the last one is cut off, which the library's own reader does not."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._frame: Any = None
        self._input = b""
        self._output = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._packed.read(1 << 18)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("the compressed file is cut off")
                return 0
            self._output = memoryview(self._unpacked())
        count = min(len(buffer), len(self._output))
        buffer[:count] = self._output[:count]
        self._output = self._output[count:]
        return count

    def _unpacked(self) -> bytes:
        if self._frame is None:
            import zstandard

            self._frame = zstandard.ZstdDecompressor().decompressobj()
        output = self._frame.decompress(self._input)
        self._input = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None
        return output


def broken_archive_errors() -> tuple[type[Exception], ...]:
    """What unpacking raises in the middle of a file that is cut off or damaged."""
    import zstandard

    return (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)


def unreadable(source: SourceFile, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return InputError(f"{source.path} cannot be read: {reason}", "Give a file that can be read")
