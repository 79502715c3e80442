"""Where Dagster keeps its history: ``$IOT_HOME/dagster``, with the project's ``dagster.yaml`` linked into it.

As a program (``python -m iot_platform.local.dagster_home --env-file .env``) it writes that place into ``.env``, so that
plain ``dagster dev`` at the root of a clone keeps its history there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from iot_platform.errors import InputError, PlatformError
from iot_platform.local.process import make_folder
from iot_platform.settings import PROJECT_ROOT, Settings, load_settings

CONFIGURATION = PROJECT_ROOT / "dagster.yaml"


def prepare_dagster_home(settings: Settings) -> Path:
    """Make the folder and the link; the folder, to be used as ``DAGSTER_HOME``. A file of the user's there stays."""
    folder = settings.home / "dagster"
    make_folder(folder)
    link = folder / CONFIGURATION.name
    if CONFIGURATION.exists() and not link.exists():
        # Through a name of our own: another process may be doing the same, and a dangling link is in the way.
        part = folder / f".{CONFIGURATION.name}.link"
        part.unlink(missing_ok=True)
        part.symlink_to(CONFIGURATION)
        part.replace(link)
    return folder.resolve()


def write_env_file(path: Path, dagster_home: Path) -> None:
    """Set ``DAGSTER_HOME`` in the file; all other lines of it stay."""
    try:
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in old if not line.strip().startswith("DAGSTER_HOME=")]
        new = [*kept, f"DAGSTER_HOME={dagster_home}"]
        if new != old:
            path.write_text("\n".join(new) + "\n", encoding="utf-8")
    except OSError as error:
        raise PlatformError(f"{path} cannot be written: {error.strerror}", "Correct the file's rights") from None


def main(arguments: list[str]) -> int:
    """Prepare the home that the settings name and write it down; the exit code."""
    try:
        if len(arguments) != 2 or arguments[0] != "--env-file":
            raise InputError("wrong use", "python -m iot_platform.local.dagster_home --env-file PATH")
        write_env_file(Path(arguments[1]), prepare_dagster_home(load_settings()))
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
