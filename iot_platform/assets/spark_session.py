"""The Spark session of the Spark engine as Dagster's resource ``spark``: its options stand on the resource's page in the UI.

Imports pyspark: for definitions whose engine is Spark. The session starts when the engine first computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_pyspark import LazyPySparkResource

from iot_platform.engines.session import spark_options
from iot_platform.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkResource(LazyPySparkResource):
    """One session a process, from ``engines.session.spark_options``; no secret among them."""

    def start(self) -> SparkSession:
        """The session, started when there is none."""
        return self.spark_session

    def forget(self) -> None:
        """Called when whoever used the session has stopped it: the next one starts anew."""
        self._spark_session = None


def spark_resource(settings: Settings) -> SparkResource:
    """The resource for these settings; nothing is started or fetched."""
    return SparkResource(spark_config=dict(spark_options(settings)))
