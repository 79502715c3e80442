"""``make clean``: end the local services of an ``IOT_HOME`` and remove its state."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from iot_platform.errors import InputError, PlatformError
from iot_platform.local.kafka import stop
from iot_platform.settings import PROJECT_ROOT, Settings, load_settings

# One of these is in every home that the platform ever used.
OURS = ("services", "lake", "dagster", "java", "logs", "spark", "checkpoints")


def clean(settings: Settings) -> str:
    """Stop the services, remove ``IOT_HOME``; one line that says what was done.

    Raises ``InputError`` where the folder does not look like the platform's: a mistyped ``IOT_HOME`` loses nothing.
    """
    home = settings.home
    if not home.exists():
        return f"{home} is not there: nothing to remove"
    holds_more = home.resolve() in {PROJECT_ROOT, *PROJECT_ROOT.parents, Path.home()}
    if holds_more or not any((home / name).is_dir() for name in OURS):
        raise InputError(f"{home} does not look like the platform's state: nothing was removed", "Correct IOT_HOME")
    stop(settings)
    try:
        shutil.rmtree(home)
    except OSError as error:
        raise PlatformError(
            f"{error.filename}: {error.strerror}", "End what still uses it, then run `make clean` again"
        ) from None
    return f"{home} removed"


def main() -> int:
    """Clean the home that the settings name; the exit code."""
    try:
        print(clean(load_settings()))
    except PlatformError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
