"""Waits until no run of Dagster's reads or writes what is about to go: none that may have begun before is unfinished.

One look is enough: a run that begins after the rows were deleted opens versions without them, and reads no file that goes.
Other readers of an old version are known to nobody; they fail with one line.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from iot_platform.errors import ServiceError
from iot_platform.settings import Settings

LOOK_SECONDS = 1.0


def wait_until_quiet(settings: Settings, seconds: float, on_wait: Callable[[str], None] | None = None) -> None:
    """Wait until no run is unfinished. Raises ``ServiceError``, naming the runs, when that takes longer than ``seconds``."""
    if not (settings.home / "dagster").exists() and not settings.dagster_postgres_url.get_secret_value():
        return
    from iot_platform.automation.run import persistent_instance
    from iot_platform.automation.runs import bury_dead, unfinished

    until = time.monotonic() + seconds
    with persistent_instance(settings) as instance:
        while True:
            bury_dead(instance)
            runs = unfinished(instance)
            if not runs:
                return
            names = ", ".join(run.run_id[:8] for run in runs[:5])
            if time.monotonic() >= until:
                raise ServiceError(
                    f"{len(runs)} run(s) of Dagster's are not finished ({names}): they may read what has to go",
                    "Wait for their end or cancel them, then run it again: it goes on where it stood.",
                )
            if on_wait:
                on_wait(f"waiting for {len(runs)} unfinished run(s): {names}")
            time.sleep(LOOK_SECONDS)
