"""Renews the pictures of ``docs/tour.md``: ``.venv/bin/python deploy/tour.py [--home FOLDER] [--only NAME …]``.

Makes demo data (seven simulated days, once a home), starts Dagster on it, launches a backfill as the UI does, and takes each
picture with a headless Chromium once the page shows what the picture is for. The developer's own state is not touched.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from browser import Browser, running_browser
from picture import small

from iot_platform.errors import PlatformError
from iot_platform.lake.levels import daily_transforms
from iot_platform.local.dagster_ui import DagsterUI, running_dagster
from iot_platform.local.process import wait_until
from iot_platform.settings import PROJECT_ROOT, Settings

PICTURES = PROJECT_ROOT / "docs" / "images"
DAYS = 7
WIDTH = 1400
LARGEST_BYTES = 150_000
LAUNCH = """
mutation ($backfill: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $backfill) {
  ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
STATUS = "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"


@dataclass(frozen=True)
class Picture:
    """One picture: the page, what it must show before it is taken, its height, and what is opened before."""

    name: str
    page: str
    shows: tuple[str, ...]
    height: int = 860
    prepare: Callable[[Browser], None] | None = None


def demo_data(settings: Settings) -> None:
    """Run the demo in this home; where it ran before it finds everything done."""
    program = Path(sys.executable).with_name("iot")
    subprocess.run([program, "demo", "--days", str(DAYS)], env=settings.environment(), cwd=settings.home, check=True)


def backfill(ui: DagsterUI) -> str:
    """Launch a backfill of Silver and Gold over all days, wait for its end; its id."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    days = [(yesterday - timedelta(days=n)).isoformat() for n in reversed(range(DAYS))]
    chosen = {
        "partitionNames": days,
        "assetSelection": [{"path": transform.table.split("/")} for transform in daily_transforms()],
        "title": "The week again",
    }
    identity = ui.ask(LAUNCH, backfill=chosen)["launchPartitionBackfill"]["backfillId"]

    def has_ended() -> bool:
        return ui.ask(STATUS, id=identity)["partitionBackfillOrError"]["status"].startswith("COMPLETED")

    if not wait_until(has_ended, 600, poll_seconds=1):
        raise PlatformError("the backfill does not end", "See the runs in the UI")
    return identity


def markdown_of(name: str) -> Callable[[Browser], None]:
    """Opens what the metadata of this name holds: the UI shows longer Markdown in a window of its own."""

    def show(browser: Browser) -> None:
        row = f"[...document.querySelectorAll('tr')].find(row => row.innerText.trim().startsWith('{name}'))"
        link = f"[...({row}).querySelectorAll('*')].filter(one => one.innerText === '[Show Markdown]').at(-1)"
        browser.wait_for(f"!!({link})", f"the link of {name}")
        browser.evaluate(f"({link}).click()")
        browser.wait_for("!!document.querySelector('[class*=dialog] table, [class*=dialog] img, [class*=dialog] pre')", name)

    return show


def states_shown(browser: Browser) -> None:
    """Tables are grey until the UI knows how they stand."""
    browser.wait_for("!!document.querySelector('[style*=accent-green]')", "how the tables stand")


def pictures(day: str, backfill_id: str) -> list[Picture]:
    """What the tour shows, in its order."""
    mart = "/assets/marts/device_health_daily?view=lineage&lineageScope=upstream&lineageDepth=8"
    partition = f"view=partitions&partition={day}"
    check = "/assets/gold/sensor_health?view=checks&checkDetail=fleet_is_healthy"
    figures = ("dagster/partition_row_count", "Materialized")
    return [
        Picture("asset-graph", mart, ("ingest", "sensor_health"), 760, states_shown),
        Picture("partitions", f"/assets/gold/duration_p95?{partition}", (day, *figures), 1130),
        Picture("plot", f"/assets/silver/readings?{partition}", (day, *figures), 760),
        Picture("failed-check", check, ("Latest execution", "offending"), 760),
        Picture("offending", check, ("Latest execution", "offending"), 760, markdown_of("offending")),
        Picture("backfill", f"/runs/b/{backfill_id}?tab=overview", ("gold / sensor_windows", "100% completed"), 760),
        Picture("freshness", "/assets/silver/readings?view=overview", ("Freshness policy", "Columns"), 860),
    ]


def hide_navigation(browser: Browser, ui: DagsterUI) -> None:
    """Fold the UI's own navigation to icons; the browser keeps that for the pages after."""
    browser.open(f"{ui.address}/runs", WIDTH, 800)
    item = "[...document.querySelectorAll('div')].filter(one => one.textContent.trim() === 'Hide navigation').at(-1)"
    browser.wait_for(f"!!({item})", "its navigation")
    browser.evaluate(f"({item}).click()")


def take(browser: Browser, ui: DagsterUI, one: Picture) -> None:
    """Open the page, wait for what it must show, keep the picture."""
    browser.open(f"{ui.address}{one.page}", WIDTH, one.height)
    browser.wait_for_texts(*one.shows)
    browser.settle()
    if one.prepare:
        one.prepare(browser)
        browser.settle()
    png = small(browser.picture())
    file = PICTURES / f"{one.name}.png"
    if len(png) > LARGEST_BYTES:
        raise PlatformError(f"{file.name} has {len(png):,} bytes, more than {LARGEST_BYTES:,}", "Crop it")
    file.write_bytes(png)
    print(f"{file.relative_to(PROJECT_ROOT)}  {len(png):,} bytes", flush=True)


def main() -> int:
    """The program; its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--home", type=Path, help="IOT_HOME of the demo data, kept; default a new one, removed")
    parser.add_argument("--only", nargs="*", default=[], help="names of pictures; default all")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as fresh:
        home = (chosen.home or Path(fresh)).resolve()
        home.mkdir(parents=True, exist_ok=True)
        today = datetime.now(UTC).date()
        first = today - timedelta(days=3 * DAYS)  # a bar of dates in which seven can be seen
        settings = Settings(home=home, first_date=first, _env_file=None)  # pyright: ignore[reportCallIssue]
        try:
            demo_data(settings)
            with running_dagster(settings) as ui, running_browser() as browser:
                identity = backfill(ui)
                hide_navigation(browser, ui)
                for one in pictures((today - timedelta(days=1)).isoformat(), identity):
                    if not chosen.only or one.name in chosen.only:
                        take(browser, ui, one)
        except PlatformError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
