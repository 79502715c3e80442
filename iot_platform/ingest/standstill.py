"""When an ingest counts as stuck, and how long to wait before the next try: pure rules over a clock that only goes on.

What belongs here: the judgement. Who looks, who kills and who starts again is ``supervise``.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_PAUSE_SECONDS = 60.0
MOST_DOUBLINGS = 4


@dataclass(frozen=True)
class Look:
    """``at``: seconds of a monotonic clock; ``mark``: whatever changes when the ingest advances; ``waiting``: records that
    wait in Kafka (None: no broker answers, which is nobody's standstill); ``is_beginning``: the stream is not up yet."""

    at: float
    mark: object
    waiting: int | None
    is_beginning: bool = False


@dataclass
class Standstill:
    """Follows one worker from its start on."""

    since: float
    mark: object = None

    def look(self, look: Look) -> float:
        """For how many seconds records have been waiting while nothing moved."""
        if not look.waiting or look.mark != self.mark:
            self.since, self.mark = look.at, look.mark
        return look.at - self.since


def patience(stuck_seconds: float, stuck_in_a_row: int) -> float:
    """After how many seconds of standstill the worker is ended: twice as many after each time that it changed nothing, so
    that a batch which really takes so long is let finish in the end."""
    return stuck_seconds * 2 ** min(stuck_in_a_row, MOST_DOUBLINGS)


def pause(failures_in_a_row: int) -> float:
    """Seconds before the next start: none after the first failure, then 1, 2, 4, … up to a minute, for ever."""
    return 0.0 if failures_in_a_row < 2 else min(2.0 ** min(failures_in_a_row - 2, 10), LONGEST_PAUSE_SECONDS)
