"""Keeps what was opened at a table's newest version for as long as that is the newest: opening a log costs 5-10 ms.

Only for logs on a local disk, where two looks at the file system tell whether a version is still the newest.
"""

from __future__ import annotations

import os
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Mark(NamedTuple):
    """The commit file of a version, and the log's checkpoint: another table in the same place has another, and after a
    checkpoint older commits may be gone that an opened table still reads."""

    inode: int
    size: int
    modified_ns: int
    checkpoint_ns: int


class Newest(Generic[T]):
    """One thing a table, as long as its version is the newest. Safe between threads."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, Mark, T]] = {}

    def keep(self, root: str, version: int, thing: T) -> None:
        """Keep it, if this version of the table at ``root`` is the newest now."""
        if mark := newest_mark(root, version):
            self._kept[root] = (version, mark, thing)

    def get(self, root: str) -> T | None:
        """What was kept, if nothing was committed since."""
        kept = self._kept.get(root)
        if kept is None or newest_mark(root, kept[0]) != kept[1]:
            return None
        return kept[2]

    def take(self, root: str) -> T | None:
        """The same, for one caller only: it is not kept any longer."""
        kept = self._kept.pop(root, None)
        if kept is None or newest_mark(root, kept[0]) != kept[1]:
            return None
        return kept[2]


def newest_mark(root: str, version: int) -> Mark | None:
    """The mark of this version; None when it is not the newest, not there, or not on a local disk."""
    if "://" in root:
        return None
    log = f"{root}/_delta_log"
    try:
        found = os.stat(f"{log}/{version:020d}.json")  # noqa: PTH116  # asked for every date: a Path costs more
    except OSError:
        return None
    if os.path.exists(f"{log}/{version + 1:020d}.json"):  # noqa: PTH110
        return None
    try:
        checkpoint = os.stat(f"{log}/_last_checkpoint").st_mtime_ns  # noqa: PTH116
    except OSError:
        checkpoint = 0
    return Mark(found.st_ino, found.st_size, found.st_mtime_ns, checkpoint)
