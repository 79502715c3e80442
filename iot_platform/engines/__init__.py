"""The two engines that run the transforms, behind one protocol, and what materializes a date with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

    from iot_platform.engines.protocol import Engine
    from iot_platform.settings import Settings


def open_engine(settings: Settings, start_spark: Callable[[], SparkSession] | None = None) -> Engine:
    """The engine that ``IOT_ENGINE`` names. Close it when done; a Spark engine holds a JVM.

    ``start_spark`` starts its session, when one is needed; by default ``session.build_spark`` does.
    """
    if settings.engine == "spark":
        from iot_platform.engines.spark import SparkEngine

        return SparkEngine(settings, start=start_spark)
    from iot_platform.engines.duckdb import DuckDBEngine

    return DuckDBEngine(settings)
