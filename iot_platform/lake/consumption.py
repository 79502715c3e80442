"""What the stream took from Kafka, by the word of its commits and not by rows: offsets, and the records among them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Place = tuple[str, int]  # topic and partition


def consumed(commits: Sequence[Mapping[str, Any]], *landed: Mapping[Place, tuple[int, int]]) -> int:
    """Data records that the stream took from Kafka, by what its commits say (newest first) and not by rows.

    Each commit says how many records Kafka held of its offsets. Those that were made before it did say how many were landed,
    which is too many where a batch was taken again for one of the two tables; offsets, where transactions put control
    records between the data. Neither counts too few, so the smaller one is right. ``landed``: per place the lowest offset
    that has rows, for commits that were cleaned away.
    """
    total, known = offsets_taken(commits, *landed), consumed_ranges(commits, *landed)
    told = all(known[place][0] >= first for place, (first, _) in told_ranges(commits).items())
    if not told or not all("messages" in commit for commit in commits):
        return total
    seen = sum(int(commit.get("records", commit["messages"])) for commit in commits)
    return seen if all("records" in commit for commit in commits) else min(total, seen)


def offsets_taken(commits: Sequence[Mapping[str, Any]], *landed: Mapping[Place, tuple[int, int]]) -> int:
    """Offsets that the stream went over, whether or not there was a record: from the first to the last of each place."""
    return sum(until - first for first, until in consumed_ranges(commits, *landed).values())


def told_ranges(commits: Iterable[Mapping[str, Any]]) -> dict[Place, tuple[int, int]]:
    """Per place the offsets, first … until (not included), that the commits say they took."""
    ranges: dict[Place, tuple[int, int]] = {}
    for commit in commits:
        for topic, partitions in (commit.get("offsets") or {}).items():
            for partition, (first, until) in partitions.items():
                place = (topic, int(partition))
                known = ranges.get(place, (first, until))
                ranges[place] = (min(known[0], first), max(known[1], until))
    return ranges


def consumed_ranges(
    commits: Iterable[Mapping[str, Any]], *landed: Mapping[Place, tuple[int, int]]
) -> dict[Place, tuple[int, int]]:
    """As ``told_ranges``, and from the lowest offset on that has rows, where older commits were cleaned away."""
    return {
        place: (min([first, *(side[place][0] for side in landed if place in side)]), until)
        for place, (first, until) in told_ranges(commits).items()
    }
