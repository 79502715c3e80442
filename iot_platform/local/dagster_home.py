"""Where Dagster keeps its history: ``$IOT_HOME/dagster``, with the project's ``dagster.yaml`` linked into it.

With ``IOT_DAGSTER_POSTGRES_URL`` the history is kept in PostgreSQL: the file there is then the project's with a storage of
its own, which names the variable and never the address, for that holds a password.

As a program (``python -m iot_platform.local.dagster_home --env-file .env``) it writes that place into ``.env``, so that
plain ``dagster dev`` at the root of a clone keeps its history there.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from iot_platform.errors import InputError, PlatformError
from iot_platform.local.process import make_folder
from iot_platform.settings import PROJECT_ROOT, Settings, exported_dagster_home, load_settings

CONFIGURATION = PROJECT_ROOT / "dagster.yaml"


POSTGRES_URL = "IOT_DAGSTER_POSTGRES_URL"
DRIVER = "postgresql+psycopg2://"  # the one that dagster-postgres brings; SQLAlchemy would take another by itself
SCHEMES = ("postgresql://", "postgres://", DRIVER)
GENERATED = "# Made from the project's dagster.yaml because IOT_DAGSTER_POSTGRES_URL is set; made again at each start.\n"
STORAGE = f"""
storage:
  postgres:
    postgres_url:
      env: {POSTGRES_URL}
"""


def prepare_dagster_home(settings: Settings) -> Path:
    """Make the folder and the configuration in it; the folder, to be used as ``DAGSTER_HOME``. A file of the user's there
    stays.

    With PostgreSQL this process's environment gets the variable that the file names, for Dagster and for what it starts.
    Raises ``InputError`` for an address that is none, and where the extra ``postgres`` is not installed.
    """
    folder = settings.home / "dagster"
    make_folder(folder)
    placed = folder / CONFIGURATION.name
    if url := settings.dagster_postgres_url.get_secret_value():
        os.environ[POSTGRES_URL] = checked_postgres(url)
        _place_generated(placed)
    elif CONFIGURATION.exists() and (not placed.exists() or is_generated(placed)):
        # Through a name of our own: another process may be doing the same, and a dangling link is in the way.
        part = placed.with_name(f".{placed.name}.link")
        part.unlink(missing_ok=True)
        part.symlink_to(CONFIGURATION)
        part.replace(placed)
    return folder.resolve()


def parted(settings: Settings) -> str:
    """A line for people when Dagster's history and the data that it is about lie in different homes; else empty."""
    told, own = exported_dagster_home(), settings.home / "dagster"
    if not told or Path(told).resolve() == own.resolve():
        return ""
    return f"DAGSTER_HOME is {told}, but the data is of IOT_HOME {settings.home}: set DAGSTER_HOME={own} in .env (make does)"


def checked_postgres(url: str) -> str:
    """The address, its driver named. ``InputError`` where it, or this installation, cannot work; shows nothing of it."""
    if not url.startswith(SCHEMES):
        raise InputError(f"{POSTGRES_URL} is no address of PostgreSQL", "Write postgresql://user:password@host:port/database")
    if find_spec("dagster_postgres") is None:
        raise InputError(
            f"{POSTGRES_URL} is set, but dagster-postgres is not installed",
            "Install the extra: .venv/bin/uv pip install -e '.[postgres]', or leave the variable empty",
        )
    return DRIVER + url.partition("://")[2]


def is_generated(path: Path) -> bool:
    """Whether this is a configuration that was made here: not the project's own, and not one of the user's."""
    return not path.is_symlink() and path.read_text(encoding="utf-8").startswith(GENERATED)


def _place_generated(placed: Path) -> None:
    if placed.exists() and not placed.is_symlink() and not is_generated(placed):
        return  # the user's: it says by itself where the history is
    base = CONFIGURATION.read_text(encoding="utf-8") if CONFIGURATION.exists() else ""
    text = GENERATED + base.rstrip("\n") + "\n" + STORAGE
    if placed.is_symlink() or not placed.exists() or placed.read_text(encoding="utf-8") != text:
        part = placed.with_name(f".{placed.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(placed)


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
