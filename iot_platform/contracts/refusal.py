"""Why a message cannot be a reading: the reason (one of ``tables.QUARANTINE_REASONS``) and a readable detail."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """A message that goes to quarantine, whole. ``detail`` names the field and what is wrong with it."""

    reason: str
    detail: str


class Refused(Exception):
    """Raised inside the parser where a message turns out to be no reading; never leaves ``contracts/``."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.refusal = Refusal(reason, detail)


def shown(value: object, limit: int = 60) -> str:
    """A value of a message as text for a ``detail``: short, one line, printable."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(char if char.isprintable() else "\ufffd" for char in text[: limit + 1])
    return f"{text[:limit]}…" if len(text) > limit else text
