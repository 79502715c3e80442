"""The Spark session: one way to start Spark, for ingestion and for the Spark engine, local or on a cluster.

What belongs here: configuration of the session and the start of its JVM. Nothing starts before ``build_spark`` is called.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOG_CONFIGURATION = Path(__file__).with_name("log4j2.properties")
WITHOUT_DICTIONARY = ("event_id", "event_time", "kafka_offset", "kafka_timestamp", "window_start")


# Code compiled fast instead of well, and a collector without helper threads: half the processor time of a start.
QUICK_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def build_spark(
    settings: Settings, app_name: str = "iot", extra: Mapping[str, str] | None = None, *, quick_start: bool = False
) -> SparkSession:
    """The Spark session of this process, with Delta and Kafka, in UTC; started when there is none yet.

    ``extra`` adds or overrides options. Spark's log goes to ``$IOT_HOME/logs/spark/<app_name>.log``. A process has
    one JVM: of a second call only the SQL options take effect. ``quick_start`` suits short work: less to start, slower
    in the long run. Raises ``ServiceError`` when Spark does not start.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    # What a callback raises comes back as an exception; the bridge would print its traceback too.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    running = SparkSession.getActiveSession()
    builder = SparkSession.builder
    if running is None:
        prepare_launch(settings)
        builder = builder.appName(app_name).master(settings.spark_master)
        for key, value in (spark_options(settings, app_name, quick_start=quick_start) | dict(extra or {})).items():
            builder = builder.config(key, value)
    try:
        session = running or builder.getOrCreate()
    except (PySparkException, Py4JJavaError, OSError) as error:
        log = log_file(settings, app_name)
        raise ServiceError(f"Spark does not start: {first_line(error)}", f"Its log is {log}") from None
    if running is not None:
        for key, value in (extra or {}).items():
            session.conf.set(key, value)
    return session


def spark_options(settings: Settings, app_name: str = "iot", *, quick_start: bool = False) -> dict[str, str]:
    """The session's options, each for a reason that stands beside it. Fetches missing jars."""
    from iot_platform.local.jars import jar_files

    java_options = " ".join(
        [
            "-Duser.timezone=UTC",
            f"-Dlog4j.configurationFile={LOG_CONFIGURATION.as_uri()}",
            f'-Diot.log.file="{log_file(settings, app_name)}"',
            *([QUICK_START] if quick_start else []),
        ]
    )
    state = settings.home / "spark"
    options = {
        "spark.jars": ",".join(str(jar) for jar in jar_files(settings, "spark")),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.memory": settings.spark_memory,
        "spark.driver.extraJavaOptions": java_options,
        # Workers would take the first python3 on the PATH, which has none of our dependencies.
        "spark.pyspark.python": sys.executable,
        "spark.pyspark.driver.python": sys.executable,
        "spark.executorEnv.TZ": "UTC",
        "spark.local.dir": str(state / "local"),
        "spark.sql.warehouse.dir": str(state / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # zstd, and growing numbers delta-encoded instead of in dictionaries that never repeat: 0.8 bytes a reading for 3.
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.hadoop.parquet.writer.version": "v2",
        **{f"spark.hadoop.parquet.enable.dictionary#{column}": "false" for column in WITHOUT_DICTIONARY},
        # Arrow batches of big messages stay below what one buffer can hold.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20),
        # 50 tasks to replay a small Delta log cost 9 s of a count's 11.7 s.
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    if settings.spark_master.startswith("local"):
        options |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    return options


def log_file(settings: Settings, app_name: str) -> Path:
    return settings.logs / "spark" / f"{app_name}.log"


def prepare_launch(settings: Settings) -> None:
    """Make the folders that Spark writes to and let its start script find our Java.

    The start script takes Java and addresses from this process's environment only, there is no option for them.
    """
    from iot_platform.local.java import java_home

    for folder in (settings.home / "spark" / "local", settings.logs / "spark"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlatformError(
                f"{folder} cannot be made: {error.strerror}", "Set IOT_HOME to a folder that you can write"
            ) from None
    os.environ["JAVA_HOME"] = str(java_home(settings))
    os.environ["PYSPARK_PYTHON"] = sys.executable
    if settings.spark_master.startswith("local"):
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"


def first_line(error: BaseException) -> str:
    """The first line of an error that may carry a Java stack trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
