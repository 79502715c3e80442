"""What a check found about one date (or one table): passed or not, its figure against its bounds, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from iot_platform.assets.metadata import markdown_table
from iot_platform.automation.run_events import NOT_JUDGED
from iot_platform.checks.thresholds import Bounds


@dataclass(frozen=True)
class Outcome:
    """``metadata`` is Dagster metadata; offending rows stand in it as a Markdown table under ``offending``.

    ``figure`` is what was measured, in ``unit``; it warns from ``warn_at`` on and fails from ``fail_at`` on (None: never).
    ``severity`` says how bad a failure is, ``not_judged`` why there is no figure, if that is so.
    """

    passed: bool
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    figure: float | None = None
    unit: str = ""
    warn_at: float | None = None
    fail_at: float | None = None
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    not_judged: str = ""

    @property
    def all_metadata(self) -> dict[str, Any]:
        """The evidence, and the figure with its unit and bounds: what the history of checks is made from."""
        figures = {"figure": self.figure, "unit": self.unit or None, "warn_at": self.warn_at, "fail_at": self.fail_at}
        numbers = {name: float(value) if isinstance(value, int) else value for name, value in figures.items()}
        why = {NOT_JUDGED: self.not_judged} if self.not_judged else {}
        return {**self.metadata, **why, **{name: value for name, value in numbers.items() if value is not None}}


def found(offending: Sequence[Mapping[str, Any]], description: str, *, unit: str = "rows", **metadata: Any) -> Outcome:
    """An outcome that fails when there are offending rows, and shows them."""
    return Outcome(
        not offending,
        description if offending else "",
        {**metadata, **shown(offending)},
        figure=float(len(offending)),
        unit=unit,
        fail_at=1.0,
    )


def judged(figure: float, bounds: Bounds, unit: str, description: str, metadata: Mapping[str, Any]) -> Outcome:
    """An outcome by the figure's bounds: an error from ``fail`` on, a warning from ``warn`` on."""
    fails = bounds.fails(figure)
    wrong = fails or bounds.warns(figure)
    may_fail = fails or (not wrong and bounds.fail is not None)
    return Outcome(
        not wrong,
        description if wrong else "",
        metadata,
        figure=figure,
        unit=unit,
        warn_at=bounds.warn,
        fail_at=bounds.fail,
        severity=dg.AssetCheckSeverity.ERROR if may_fail else dg.AssetCheckSeverity.WARN,
    )


def not_judged(why: str, bounds: Bounds, unit: str, **metadata: Any) -> Outcome:
    """An outcome that passes because there is too little to judge by; it says so and has no figure."""
    return Outcome(
        True, f"not judged: {why}", metadata, unit=unit, warn_at=bounds.warn, fail_at=bounds.fail,
        severity=dg.AssetCheckSeverity.WARN, not_judged=why,
    )  # fmt: skip


def shown(offending: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Offending rows as metadata; nothing when there are none."""
    return {"offending": dg.MetadataValue.md(markdown_table(list(offending)))} if offending else {}
