"""What every asset and check works with: the settings, the lake, the engine. Opened on first use, once a process."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from iot_platform.settings import Settings

if TYPE_CHECKING:
    from iot_platform.engines.protocol import Engine
    from iot_platform.lake.lake import Lake

class Platform:
    """The parts that assets need, from the settings. A plain object: nothing of it shows in a run's config."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def lake(self) -> Lake:
        from iot_platform.lake.lake import Lake

        return Lake(self.settings)

    @cached_property
    def engine(self) -> Engine:
        """The engine of the settings: a Spark session, say, is started once, however many tables a run makes."""
        from iot_platform.engines import open_engine

        return open_engine(self.settings)

    def close(self) -> None:
        """Give back what was opened; it is opened again when asked for."""
        engine = self.__dict__.pop("engine", None)
        if engine:
            engine.close()

    def now(self) -> datetime:
        """The time that runs write as ``processed_at``."""
        return datetime.now(UTC)
