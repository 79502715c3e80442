"""Where finished reports lie: ``$IOT_HOME/reports/<report>/<first date>.<format>``. A file is whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from iot_platform.errors import PlatformError
from iot_platform.settings import Settings

DAILY, WEEKLY_P95 = "daily", "p95"


def report_path(settings: Settings, report: str, first: date, ending: str = "md") -> Path:
    """The file of the report that begins on this UTC date."""
    return settings.reports / report / f"{first.isoformat()}.{ending}"


def is_written(settings: Settings, report: str, first: date) -> bool:
    """Whether the report is there. The Markdown is written last: where it is, all is."""
    return report_path(settings, report, first).exists()


def write_report(settings: Settings, report: str, first: date, texts: Mapping[str, str]) -> list[Path]:
    """Write the report in these formats (ending to text); what was there is replaced. Raises ``PlatformError``."""
    written: list[Path] = []
    for ending in sorted(texts, key=lambda ending: ending == "md"):
        path = report_path(settings, report, first, ending)
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(texts[ending], encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise PlatformError(
                f"{path} cannot be written: {error.strerror}", "Check that the disk is there, writable and not full."
            ) from None
        written.append(path)
    return written
