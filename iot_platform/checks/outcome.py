"""What a check found about one date (or one table): passed or not, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from iot_platform.assets.metadata import markdown_table


@dataclass(frozen=True)
class Outcome:
    """``metadata`` is Dagster metadata; offending rows stand in it as a Markdown table under ``offending``."""

    passed: bool
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


def found(offending: Sequence[Mapping[str, Any]], description: str, **metadata: Any) -> Outcome:
    """An outcome that fails when there are offending rows, and shows them."""
    shown = {"offending": dg.MetadataValue.md(markdown_table(list(offending)))} if offending else {}
    return Outcome(not offending, description if offending else "", {**metadata, **shown})
