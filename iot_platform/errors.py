"""The errors that a user sees as one line. What belongs here: error types only, no handling.

An entry point prints ``str(error)`` on stderr and ends with ``error.exit_code`` (0 done, 1 failed, 2 wrong use
or bad input). Anything that is not a ``PlatformError`` is a defect and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class PlatformError(Exception):
    """Work that could not be done; ``what`` says what is wrong and where, ``todo`` what to do about it."""

    exit_code = 1

    def __init__(self, what: str, todo: str = "") -> None:
        self.what = " ".join(what.split())
        self.todo = " ".join(todo.split())
        super().__init__(f"{self.what}. {self.todo}".rstrip() if self.todo else self.what)


class InputError(PlatformError):
    """Wrong use or bad input: nothing was done with it; exit code 2."""

    exit_code = 2


class ServiceError(PlatformError):
    """A service (broker, store) that is absent, refuses, or died."""


class LakeError(PlatformError):
    """A table that cannot be read or written: missing, corrupt, or its disk not writable."""


class HeldError(LakeError):
    """A date that a rollback holds: nothing makes it again until somebody releases it."""

    def __init__(self, table: str, day: object) -> None:
        super().__init__(
            f"{table} {day} is held by a rollback and stays as it is",
            f"`iot rollback --table {table} --date {day} --release` lets it be made again.",
        )


class ClosedError(LakeError):
    """A date that is closed: its Bronze has expired, or is about to, so that nothing makes it again."""

    def __init__(self, table: str, day: object, before: object) -> None:
        super().__init__(f"{table} {day} is closed and stays as it is", f"Dates before {before} have had their time.")


class DataError(PlatformError):
    """Data that breaks its table contract; it was not committed.

    ``offending``: the first of the rows, as text, if they are known; ``count``: how many break it.
    """

    def __init__(
        self, what: str, todo: str = "", offending: Sequence[Mapping[str, Any]] = (), count: int | None = None
    ) -> None:
        super().__init__(what, todo)
        self.offending = offending
        self.count = len(offending) if count is None else count
