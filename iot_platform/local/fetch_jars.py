"""Fetching jars before anybody waits for them, with progress: ``python -m iot_platform.local.fetch_jars``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

from iot_platform.errors import PlatformError
from iot_platform.local.jars import ON_DEMAND, fetch, missing, read_lock
from iot_platform.settings import Settings, load_settings


def fetch_with_progress(settings: Settings, console: Console, groups: Sequence[str] = ()) -> int:
    """Fetch what the groups lack; one line at the end if there was anything to fetch.

    No group named: all that the platform itself runs. Returns the number of jars fetched. Where the console is no terminal
    there is only that line.
    """
    lock = read_lock()
    jars = dict.fromkeys(jar for group in groups or lock.keys() - ON_DEMAND for jar in lock[group])
    wanted = missing(settings, jars)
    if not wanted:
        return 0
    started = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("fetching {task.fields[jars]} jars"), BarColumn(), DownloadColumn())
    quiet = not console.is_terminal
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None, jars=len(wanted))
        fetched = fetch(settings, wanted, on_bytes=lambda count: progress.advance(task, count))
        megabytes = progress.tasks[0].completed / 1e6
    seconds = time.monotonic() - started
    console.print(f"{fetched} jars fetched and verified: {megabytes:.0f} MB in {seconds:.0f} s", highlight=False)
    return fetched


def main() -> int:
    """Fetch every locked jar that the platform runs; the exit code."""
    console = Console(stderr=True)
    try:
        if not fetch_with_progress(load_settings(), console):
            console.print("jars: all here and verified")
    except PlatformError as error:
        console.print(str(error), style="red", soft_wrap=True, highlight=False, markup=False)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
