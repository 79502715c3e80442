"""Where the stream begins: with its checkpoint, or, where that is lost, as a new generation at the tables' own ends.

A new generation first fences the old ones (their Delta transaction is set to its end in both tables), so that nothing
that still runs under them can commit any more; only then are the ends read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iot_platform.errors import DataError, LakeError
from iot_platform.ingest.broker import Held, Range
from iot_platform.ingest.checkpoint import Checkpoint
from iot_platform.ingest.position import FENCED, TABLES, Ends, Position, app_id, read_position
from iot_platform.ingest.transactions import commit_once
from iot_platform.lake.lake import Lake
from iot_platform.settings import Settings


@dataclass(frozen=True)
class Start:
    """What a stream needs to begin; ``reason`` says why a new generation was begun, if one was."""

    position: Position
    generation: int
    checkpoint: Checkpoint
    starting: Ends
    reason: str = ""


def choose_start(
    settings: Settings,
    lake: Lake,
    held: Held,
    *,
    force_new: bool = False,
    accept_loss: bool = False,
) -> Start:
    """Go on where the checkpoint is good, else begin a new generation. Raises ``DataError`` for messages lost in Kafka."""
    for table in TABLES:
        lake.ensure(table)
    position = read_position(lake)
    generation = position.generation
    checkpoint = Checkpoint.of(settings, generation)
    reason = checkpoint.why_unusable(position, set(held.offsets))
    if again := made_again(held, position):
        raise another_topic(again)
    lost = losses(held.offsets, position)
    if lost and not accept_loss:
        raise DataError(
            f"Kafka no longer holds messages that were not read yet: {'; '.join(lost)}",
            "They expired before they were read; nothing was skipped. Go on with what is left by `iot ingest --accept-loss`",
        )
    if reason or lost or force_new:
        generation += 1
        checkpoint = fresh(settings, generation)
        reason = reason or ("messages were lost" if lost else "another process may still be ingesting")
    if fence(lake, position, generation):
        position = read_position(lake)
    return Start(position, generation, checkpoint, starting_offsets(held.offsets, position), reason)


def fresh(settings: Settings, generation: int) -> Checkpoint:
    """The generation's checkpoint; what may lie there from an attempt that never committed is set aside, not deleted."""
    checkpoint = Checkpoint.of(settings, generation)
    aside = 0
    try:
        while checkpoint.path.exists():
            aside += 1
            target = checkpoint.path.with_name(f"{checkpoint.path.name}.aside{aside}")
            if not target.exists():
                checkpoint.path.rename(target)
    except OSError as error:
        raise LakeError(f"{checkpoint.path} cannot be moved: {error.strerror}", "Make the folder writable") from None
    return checkpoint


def fence(lake: Lake, position: Position, generation: int) -> bool:
    """Shut out every generation before this one, in both tables; whether there was one to shut out."""
    fenced = False
    for table in TABLES:
        for old in range(1, generation):
            if position.tables[table].transactions.get(old) == FENCED:
                continue
            fenced = True
            commit_once(lake, table, app_id(table, old), FENCED)
    return fenced


def another_topic(names: Sequence[str]) -> DataError:
    """What is said of topics that were deleted and made again."""
    return DataError(
        f"a topic is not the one that was read before: {'; '.join(names)}",
        "Its offsets would name other messages than Bronze's rows do: give the topic a new name in the topics file",
    )


def made_again(held: Held, position: Position) -> list[str]:
    """Topics that were deleted and made again: another identity, or they end before what was read of them."""
    found: list[str] = []
    for topic, ends in position.ends.items():
        if not any(ends.values()):
            continue  # nothing was read of it: no row can be mistaken
        spans = held.offsets.get(topic, {})
        is_other = position.topic_ids.get(topic, held.topic_ids.get(topic)) != held.topic_ids.get(topic)
        shorter = [p for p, end in ends.items() if spans and (p not in spans or end > spans[p].high)]
        if topic in held.offsets and (is_other or shorter):
            waiting = sum(span.high - span.low for span in spans.values())
            found.append(f"{topic} (read up to {sum(ends.values())} messages of the old one, the new one holds {waiting})")
    return found


def losses(held: Mapping[str, Mapping[int, Range]], position: Position) -> list[str]:
    """Offsets that expired before they were read."""
    if not position.is_exact:
        return []
    return [
        f"{topic}/{partition} offsets {end} to {span.low - 1}"
        for topic, ends in position.ends.items()
        for partition, end in sorted(ends.items())
        if (span := held.get(topic, {}).get(partition)) is not None and end < span.low
    ]


def starting_offsets(held: Mapping[str, Mapping[int, Range]], position: Position) -> Ends:
    """Per partition the smaller of the two tables' ends, or the oldest that the broker holds."""
    ends = position.ends
    return {
        topic: {
            partition: min(max(span.low, ends.get(topic, {}).get(partition, span.low)), span.high)
            for partition, span in spans.items()
        }
        for topic, spans in held.items()
    }
