"""Which offsets a commit of readings turned away and for what reason, so small that it stands in that commit's metadata.

Quarantine is committed after the readings. What dies in between is finished by this word alone: contracts, the parser,
closed dates and erased devices may all have changed by then, and rows may have left Bronze (ADR 0010).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Place = tuple[str, int]  # topic and partition
Offsets = Mapping[str, Mapping[int, int]]


class Marks:
    """Offsets of one partition, added in their order: a bit each, from the first one on."""

    def __init__(self) -> None:
        self.first = -1
        self.count = 0
        self._bits = bytearray()

    def add(self, offset: int) -> None:
        if self.first < 0:
            self.first = offset
        at = offset - self.first
        self._bits.extend(bytes((at >> 3) + 1 - len(self._bits)))
        self._bits[at >> 3] |= 1 << (at & 7)
        self.count += 1

    def as_json(self, reason: str) -> dict[str, Any]:
        return Piece(reason, self.first, bytes(self._bits)).as_json()


class Piece(NamedTuple):
    """Offsets from ``first`` on that were turned away for one reason, a bit each."""

    reason: str
    first: int
    bits: bytes

    @property
    def until(self) -> int:
        return self.first + 8 * (len(self.bits) - 1) + self.bits[-1].bit_length()

    def holds(self, offset: int) -> bool:
        at = offset - self.first
        return self.first <= offset < self.until and bool(self.bits[at >> 3] >> (at & 7) & 1)

    def as_json(self) -> dict[str, Any]:
        # An erasure redacts ids in commits, and finds none here: neither in a name nor within digits and letters.
        return {self.reason: [self.first, zlib.compress(self.bits).hex()]}

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Piece:
        ((reason, (first, bits)),) = said.items()
        return cls(reason, first, zlib.decompress(bytes.fromhex(bits)))


@dataclass(frozen=True)
class TurnedAway:
    """What the readings' commits turned away, as far as quarantine may not have it yet.

    ``untold``: ends below which nothing is known, since no commit tells it any more.
    """

    pieces: Mapping[Place, tuple[Piece, ...]] = field(default_factory=dict)
    untold: Offsets = field(default_factory=dict)

    def is_told(self, place: Place, offset: int) -> bool:
        """Whether it is known what became of an offset that the readings' commits took in."""
        topic, partition = place
        return offset >= self.untold.get(topic, {}).get(partition, 0)

    def reason(self, place: Place, offset: int) -> str | None:
        """For what this offset was turned away; None: its readings landed, or it held no record."""
        return next((piece.reason for piece in self.pieces.get(place, ()) if piece.holds(offset)), None)

    def then(self, found: Mapping[Place, Sequence[Piece]], settled: Offsets) -> TurnedAway:
        """With what the next commit turned away, and without what lies below ``settled``: both tables have that."""
        ends = {(topic, partition): end for topic, ends in settled.items() for partition, end in ends.items()}
        both = {place: (*self.pieces.get(place, ()), *found.get(place, ())) for place in {**self.pieces, **found}}
        open_ = {place: tuple(one for one in own if one.until > ends.get(place, 0)) for place, own in both.items()}
        untold = {
            topic: left
            for topic, own in self.untold.items()
            if (left := {partition: end for partition, end in own.items() if end > ends.get((topic, partition), 0)})
        }
        return TurnedAway({place: own for place, own in open_.items() if own}, untold)

    def as_json(self) -> dict[str, Any]:
        said: dict[str, Any] = {}
        for (topic, partition), pieces in self.pieces.items():
            said.setdefault(topic, {})[partition] = [piece.as_json() for piece in pieces]
        return {"offsets": said, "untold": self.untold}

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> TurnedAway:
        pieces = {
            (topic, int(partition)): tuple(map(Piece.of_json, own))
            for topic, partitions in said["offsets"].items()
            for partition, own in partitions.items()
        }
        untold = {
            topic: {int(partition): end for partition, end in ends.items()} for topic, ends in said["untold"].items()
        }
        return cls(pieces, untold)


NOTHING = TurnedAway()
