"""The project's plugin of dbt-duckdb: which file dbt writes, what it sees of the lake, and how it publishes.

``profiles.yml`` names this module; dbt-duckdb looks for the class ``Plugin``. It makes plain ``dbt build`` and the one
that Dagster runs the same thing, with the settings of the platform and no variable to set.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic, sleep
from typing import Any

import duckdb
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig
from dbt_common.exceptions import DbtRuntimeError

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.lake import Lake
from iot_platform.lake.lake import first_line
from iot_platform.local.process import make_folder
from iot_platform.marts.publish import build_file, publish
from iot_platform.marts.sources import attach_lake
from iot_platform.settings import load_settings

WAIT_SECONDS = 300.0


class Plugin(BasePlugin):
    """Lives as long as dbt's database is open; the lake is pinned for that time."""

    only_reads = False

    def update_connection_config(self, creds: DuckDBCredentials, config: dict[str, Any]) -> None:
        """Before the database is opened: put it where the settings say, and wait for another writer to end."""
        # Dagster counts rows through a connection of its own, which only reads: no lake, and nobody to wait for.
        self.only_reads = config.get("access_mode") == "READ_ONLY"
        try:
            path = build_file(load_settings())
            make_folder(path.parent)
            if not self.only_reads:
                wait_for_file(path, WAIT_SECONDS)
        except PlatformError as error:
            raise DbtRuntimeError(str(error)) from None
        creds.path = str(path)

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """After it was opened: attach the lake at the versions of this moment."""
        self.connection = conn
        if self.only_reads:
            return
        try:
            attach_lake(conn, Lake(load_settings()))
        except PlatformError as error:
            raise DbtRuntimeError(str(error)) from None

    def store(self, target_config: TargetConfig) -> None:
        """Publish. The macro ``publish_marts`` calls it through ``adapter.store_relation`` when all is built and tested."""
        try:
            publish(self.connection, load_settings().marts)
        except PlatformError as error:
            raise DbtRuntimeError(str(error)) from None


def wait_for_file(path: Path, seconds: float) -> None:
    """Return when the database can be written; ``ServiceError`` when another process still does after ``seconds``."""
    deadline = monotonic() + seconds
    while True:
        try:
            duckdb.connect(path).close()
            return
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise unusable(path, error) from None
            if monotonic() >= deadline:
                raise ServiceError(
                    f"another process has been writing {path} for more than {seconds:.0f} s", "Wait for it to end, or end it"
                ) from None
            sleep(0.2)
        except duckdb.Error as error:
            raise unusable(path, error) from None


def unusable(path: Path, error: Exception) -> PlatformError:
    return PlatformError(
        f"{path} cannot be opened ({first_line(error)})",
        "If it is damaged remove it: the next build makes it again from the lake, and readers keep what is published.",
    )
