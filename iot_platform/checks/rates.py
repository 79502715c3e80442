"""The rates: which share of a date's rows is null, repeated, out of range, late, an anomaly, or cannot be read at all.

Every rate is judged in the same way (``judge``): the parts that an override names by themselves, the rest together; the
worst of them is the check's result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

import dagster as dg

from iot_platform.assets.metadata import markdown_table
from iot_platform.checks.inspection import BRONZE, QUARANTINE, REJECTED, SILVER, Inspection, Part
from iot_platform.checks.outcome import Outcome, judged, not_judged, shown
from iot_platform.checks.thresholds import Bounds, Threshold

SHARE = "share"
REASON_OF = {
    "null_rate": "null_value",
    "not_finite_rate": "not_finite",
    "out_of_range_rate": "out_of_range",
    "duplicate_rate": "duplicate",
}
SHOWN = 10
P = TypeVar("P", bound=Hashable)


@dataclass
class Group:
    """The rows that one override names, or the rest."""

    scope: str
    bounds: Bounds
    rows: int = 0
    found: int = 0
    parts: list[Any] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.found / self.rows if self.rows else 0.0

    @property
    def badness(self) -> tuple[bool, bool, float]:
        return self.bounds.fails(self.share), self.bounds.warns(self.share), self.share


def grouped(total: Mapping[P, int], hits: Mapping[P, int], threshold: Threshold, fields: tuple[str, ...]) -> list[Group]:
    """The counts by what judges them: one group an override (in the file's order), last the rest."""
    groups = [
        Group(", ".join(f"{name} {value}" for name, value in override.scope.items()), override.bounds)
        for override in threshold.overrides
    ]
    rest = Group("all" if not groups else "the rest", threshold.bounds)
    for part in total.keys() | hits.keys():
        values = {name: getattr(part, name) for name in fields}
        fitting = (group for group, one in zip(groups, threshold.overrides, strict=True) if one.fits(values))
        group = next(fitting, rest)
        group.rows += total.get(part, 0)
        group.found += hits.get(part, 0)
        group.parts.append(part)
    return [*groups, rest]


def judge(groups: list[Group], min_rows: int, what: str) -> tuple[Outcome, Group | None]:
    """The outcome of the worst group, and that group when something is wrong with it."""
    large = [group for group in groups if group.rows >= max(min_rows, 1)]
    metadata: dict[str, Any] = {
        "rows": sum(group.rows for group in groups),
        "found": sum(group.found for group in groups),
    }
    if len(groups) > 1:
        table = [
            {"of": group.scope, "rows": group.rows, "found": group.found, "share": round(group.share, 6),
             "warn": group.bounds.warn, "fail": group.bounds.fail}
            for group in groups
        ]  # fmt: skip
        metadata["parts"] = dg.MetadataValue.md(markdown_table(table, limit=50))
    if not large:
        why = f"{metadata['rows']} rows, judged are {min_rows} and more" if metadata["rows"] else "no rows"
        return not_judged(why, groups[-1].bounds, SHARE, **metadata), None
    worst = max(large, key=lambda group: group.badness)
    bounds = worst.bounds
    limit = bounds.fail if bounds.fails(worst.share) else bounds.warn
    of = "" if len(groups) == 1 else f" of {worst.scope}"
    said = f"{worst.share:.2%} of {worst.rows:,} rows{of} {what}; the bound is {limit or 0:.2%}"
    outcome = judged(worst.share, bounds, SHARE, said, metadata)
    return outcome, None if outcome.passed else worst


@dataclass(frozen=True)
class Rate:
    """A check of a share of a date's readings. ``wrong`` is SQL: the rows of ``table`` that are counted."""

    name: str
    table: str
    description: str
    what: str
    wrong: str

    def counts(self, inspection: Inspection, day: date) -> tuple[Counter[Part], Counter[Part]]:
        """Per part of the date: all rows, and those that are counted."""
        if self.table == REJECTED:
            return inspection.bronze(day), inspection.rejected(day, REASON_OF[self.name])
        if self.table == BRONZE:
            return inspection.bronze(day), inspection.bronze(day, "late")
        return inspection.silver(day), inspection.silver(day, "anomalies")

    def __call__(self, inspection: Inspection, day: date) -> Outcome:
        threshold = inspection.thresholds[self.name]
        groups = grouped(*self.counts(inspection, day), threshold, Part._fields)
        outcome, worst = judge(groups, threshold.min_rows, self.what)
        if worst is None:
            return outcome
        offending = self._offending(inspection, day, worst)
        return judged(worst.share, worst.bounds, SHARE, outcome.description, {**outcome.metadata, **shown(offending)})

    def _offending(self, inspection: Inspection, day: date, group: Group) -> list[Mapping[str, Any]]:
        """Whose rows they are, the most first, each with one of them by its place in Kafka."""
        view = inspection.lake.contract(self.table).view
        found = inspection.rows(
            day,
            "select contract, metric, site, device_id, count(*) as found,"
            " min(event_time) as first, max(event_time) as last,"
            " min(topic || ' ' || kafka_partition || ':' || kafka_offset) as \"e.g.\""
            f" from {view} where {self.wrong} group by contract, metric, site, device_id order by found desc, device_id",
            (self.table,),
        )
        parts = set(group.parts)
        return [row for row in found if Part(row["contract"], row["metric"], row["site"]) in parts]


def rates() -> list[Rate]:
    """Every rate of a date's readings."""
    said = {"null_rate": "have no value", "not_finite_rate": "are no finite number",
            "out_of_range_rate": "lie outside their bounds", "duplicate_rate": "came before"}  # fmt: skip
    return [
        *(
            Rate(name, REJECTED, f"Few readings {said[name]}.", said[name], f"reason = '{reason}'")
            for name, reason in REASON_OF.items()
        ),
        Rate("late_rate", BRONZE, "Few readings come more than 10 minutes late.", "came late", "is_late"),
        Rate("anomaly_rate", SILVER, "Few readings are anomalies.", "are anomalies", "is_anomaly"),
    ]


def quarantine_rate(inspection: Inspection, day: date) -> Outcome:
    """Few of the messages that arrived on the date cannot be readings; those that were redriven since count as read."""
    from iot_platform.topics import load_topics

    threshold = inspection.thresholds["quarantine_rate"]
    contract_of = {topic.name: contract for contract, topic in load_topics(inspection.lake.settings).items()}

    def part(topic: str) -> Part:
        return Part(contract_of.get(topic) or topic)

    held = inspection.rows(
        day,
        "select topic, reason, detail, count(*) as found, min(kafka_partition || ':' || kafka_offset) as \"e.g.\""
        f" from {inspection.lake.contract(QUARANTINE).view} where redriven_at is null"
        " group by topic, reason, detail order by found desc, topic, reason",
        (QUARANTINE,),
    )
    hits: Counter[Part] = Counter()
    for row in held:
        hits[part(str(row["topic"]))] += row["found"]
    total = Counter(hits)
    for topic, messages in inspection.arrived(day).items():
        total[part(topic)] += messages
    groups = grouped(total, hits, threshold, ("contract",))
    outcome, worst = judge(groups, threshold.min_rows, "were put into quarantine")
    if worst is None:
        return outcome
    parts = set(worst.parts)
    offending = [row for row in held if part(str(row["topic"])) in parts]
    return judged(worst.share, worst.bounds, SHARE, outcome.description, {**outcome.metadata, **shown(offending)})
