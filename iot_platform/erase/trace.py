"""How a device's id is recognised in text and in bytes: as a whole token, and never as a part of another device's id.

Pure: no file is opened here. ``dev-1`` is no trace of it inside ``dev-10``, ``my-dev-1`` or ``dev-1-b``, nor where the id of
another known device begins or ends with it (``hall/dev-1``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

ERASED = "[erased]"
IN_A_TOKEN = "[A-Za-z0-9_-]"


@dataclass(frozen=True)
class Trace:
    """What is looked for: the id, in the spellings that JSON and paths give it; ``others``: ids that contain it."""

    device_id: str
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, device_id: str, known: Iterable[str]) -> Trace:
        """``known``: all ids of devices that there are; those that merely contain this one are no trace of it."""
        return cls(device_id, tuple(sorted({one for one in known if one != device_id and device_id in one})))

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """The id as it may stand somewhere, plain first."""
        plain = self.device_id
        return tuple(dict.fromkeys([plain, *_escaped(plain), quote(plain, safe=""), quote(plain)]))

    @cached_property
    def needles(self) -> tuple[bytes, ...]:
        """What the bytes of a trace contain, whatever surrounds it: a quick look before the careful one."""
        return tuple(dict.fromkeys(text.encode("utf-8", "surrogatepass") for text in self.spellings))

    @cached_property
    def is_distinct(self) -> bool:
        """Whether the id can be told from words and numbers. ``413`` or ``value`` are it only where they stand as a text of
        their own: in quotes that no colon follows, or alone."""
        return any(one.isalpha() for one in self.device_id) and any(one.isdigit() for one in self.device_id)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Ids of others come first, the longest first, so that they are passed over whole.
        others = sorted({text for one in self.others for text in (one, *_escaped(one))}, key=len, reverse=True)
        passed = "|".join(re.escape(text) for text in others)
        wanted = "|".join(re.escape(text) for text in self.spellings)
        if self.is_distinct:
            found = rf"(?<!{IN_A_TOKEN})(?P<id>{wanted})(?!{IN_A_TOKEN})"
        else:
            found = rf"(?<=[\"'])(?P<id>{wanted})(?=\\*[\"'](?!\s*:))"
        return re.compile(rf"(?:{passed})|{found}" if passed else found)

    def is_in(self, text: str | bytes | None) -> bool:
        """Whether the id stands there as a token of its own."""
        if not text:
            return False
        if isinstance(text, bytes):
            if not any(needle in text for needle in self.needles):
                return False
            text = text.decode("utf-8", "replace")
        if text == self.device_id:
            return True
        if not any(spelling in text for spelling in self.spellings):
            return False
        return any(match["id"] for match in self._pattern.finditer(text))

    def places(self, text: str) -> list[tuple[int, int]]:
        """Where the traces are: start and end of each."""
        return [match.span() for match in self._pattern.finditer(text) if match["id"]]

    def redacted(self, text: str) -> str:
        """The text with ``[erased]`` in the place of each trace."""
        if text == self.device_id:
            return ERASED
        return self._pattern.sub(lambda match: ERASED if match["id"] else match[0], text)

    def redacted_json(self, value: Any) -> Any:
        """The same in every text of a JSON value, keys included."""
        match value:
            case str():
                return self.redacted(value)
            case list():
                return [self.redacted_json(item) for item in value]
            case dict():
                return {self.redacted(name): self.redacted_json(item) for name, item in value.items()}
            case _:
                return value


def _escaped(text: str) -> list[str]:
    """As JSON writes it: with and without escapes for what is not ASCII, and once more inside a text in JSON."""
    once = [json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]]
    return once + [json.dumps(one)[1:-1] for one in once]
