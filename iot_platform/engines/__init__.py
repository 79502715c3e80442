"""The two engines that run the transforms, behind one protocol, and what materializes a date with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iot_platform.engines.protocol import Engine
    from iot_platform.settings import Settings


def open_engine(settings: Settings) -> Engine:
    """The engine that ``IOT_ENGINE`` names. Close it when done; a Spark engine holds a JVM."""
    if settings.engine == "spark":
        from iot_platform.engines.spark import SparkEngine

        return SparkEngine(settings)
    from iot_platform.engines.duckdb import DuckDBEngine

    return DuckDBEngine(settings)
