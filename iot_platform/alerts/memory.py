"""What the sensor remembers between ticks, as its cursor: since when figures stand still, and when a channel is due again.

Only hints live here: with the cursor lost, waiting times begin anew and every check is read once more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta

from iot_platform.alerts.facts import Facts

KEPT_STALE = 300  # the longest stale dates that are followed: the cursor stays small while years are made again
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=30)


@dataclass(frozen=True)
class Pause:
    """A channel that failed: how often in a row, and when it is tried again (ISO 8601)."""

    failures: int
    until: str


@dataclass(frozen=True)
class Memory:
    """``unchanged``: by figure its value, and since when it stands (ISO 8601). ``checks_seen``: Dagster's event number."""

    unchanged: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    pauses: Mapping[str, Pause] = field(default_factory=dict)
    checks_seen: int | None = None

    @classmethod
    def load(cls, cursor: str | None) -> Memory:
        """From a cursor; one that cannot be read (of another version, say) is forgotten."""
        try:
            content = json.loads(cursor or "{}")
            return cls(
                {name: (value, since) for name, (value, since) in content.get("unchanged", {}).items()},
                {name: Pause(**pause) for name, pause in content.get("pauses", {}).items()},
                content.get("checks_seen"),
            )
        except (AttributeError, TypeError, ValueError):
            return cls()

    def dump(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    def since(self, name: str) -> datetime | None:
        """Since when the figure stands still; None when it is not followed."""
        found = self.unchanged.get(name)
        return datetime.fromisoformat(found[1]) if found else None

    def follow(self, facts: Facts, lag_records: int) -> Memory:
        """The memory after a look: a figure that changed, or that came up, counts from now."""
        followed = _followed(facts, lag_records)
        now = facts.now.isoformat()
        kept = dict(self.unchanged)
        for group, figures in followed.items():
            kept = {name: value for name, value in kept.items() if not name.startswith(group)}
            for name, value in figures.items():
                before = self.unchanged.get(name)
                kept[name] = before if before and before[0] == value else (value, now)
        stale = sorted((since, name) for name, (_, since) in kept.items() if name.startswith("stale/"))
        for _, name in stale[KEPT_STALE:]:
            del kept[name]
        return replace(self, unchanged=kept)

    def failed(self, channel: str, now: datetime) -> Memory:
        """Try the channel again 30 s later, twice that after each further failure, at most half an hour."""
        failures = self.pauses[channel].failures + 1 if channel in self.pauses else 1
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE)
        return replace(self, pauses={**self.pauses, channel: Pause(failures, (now + pause).isoformat())})

    def succeeded(self, channel: str) -> Memory:
        return replace(self, pauses={name: pause for name, pause in self.pauses.items() if name != channel})

    def may_send(self, channel: str, now: datetime) -> bool:
        pause = self.pauses.get(channel)
        return pause is None or now >= datetime.fromisoformat(pause.until)


def _followed(facts: Facts, lag_records: int) -> dict[str, dict[str, str]]:
    """Per group of figures that could be looked at, those worth following, with their values."""
    found: dict[str, dict[str, str]] = {}
    if facts.stale is not None:
        found["stale/"] = {f"stale/{table}/{day}": str(level) for (table, day), level in facts.stale.items()}
    if facts.ingest is not None:
        behind = facts.ingest.behind
        found["broker"] = {"broker": "silent"} if behind is None else {}
        if behind is not None:
            found["lag/"] = {f"lag/{topic}": "high" for topic, records in behind.items() if records > lag_records}
            found["committed"] = {"committed": str(facts.ingest.committed)} if any(behind.values()) else {}
    return found
