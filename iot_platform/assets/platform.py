"""What every asset and check works with: the settings, the lake, the engine. Opened on first use, once a process."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from iot_platform.settings import Settings

if TYPE_CHECKING:
    from iot_platform.assets.compute import Compute
    from iot_platform.assets.spark_session import SparkResource
    from iot_platform.engines.protocol import Engine
    from iot_platform.lake.lake import Lake

class Platform:
    """The parts that assets need, from the settings. A plain object: nothing of it shows in a run's config."""

    def __init__(self, settings: Settings, spark: SparkResource | None = None) -> None:
        """``spark`` holds the Spark session of the engine; only needed when the settings' engine is Spark."""
        self.settings = settings
        self.spark = spark

    @cached_property
    def lake(self) -> Lake:
        from iot_platform.lake.lake import Lake

        return Lake(self.settings)

    @cached_property
    def engine(self) -> Engine:
        """The engine of the settings: a Spark session, say, is started once, however many tables a run makes."""
        from iot_platform.engines import open_engine

        return open_engine(self.settings, self.spark.start if self.spark else None)

    @cached_property
    def compute(self) -> Compute:
        """Where derived tables are made: here, or by jobs on AWS."""
        from iot_platform.assets.compute import compute_of

        return compute_of(self)

    def close(self) -> None:
        """Give back what was opened; it is opened again when asked for."""
        engine = self.__dict__.pop("engine", None)
        if engine:
            engine.close()
        if self.spark:
            self.spark.forget()

    def now(self) -> datetime:
        """The time that runs write as ``processed_at``."""
        return datetime.now(UTC)
