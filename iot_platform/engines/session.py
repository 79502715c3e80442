"""The Spark session: one way to start Spark, for ingestion and for the Spark engine, local or on a cluster.

What belongs here: configuration of the session and the start of its JVM. Nothing starts before ``build_spark`` is called.
``spark_options`` is the one place that knows the session's options; Dagster shows them as its resource ``spark``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.lake.storage import Storage
from iot_platform.local.jars import fetch_group, group_files
from iot_platform.settings import SUBMITTED, Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOG_CONFIGURATION = Path(__file__).with_name("log4j2.properties")
WITHOUT_DICTIONARY = ("event_id", "event_time", "kafka_offset", "kafka_timestamp", "window_start")

S3A_GROUP = "s3a"
# What the SQL texts and the Python workers count on, in every session: also in one that somebody else configured.
SQL_OPTIONS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Arrow batches of big messages stay below what one buffer can hold.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20),
}
# Code compiled fast instead of well, and a collector without helper threads: half the processor time of a start.
QUICK_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def build_spark(
    settings: Settings, app_name: str = "iot", extra: Mapping[str, str] | None = None, *, quick_start: bool = False,
    start: Callable[[], SparkSession] | None = None,
) -> SparkSession:  # fmt: skip
    """The Spark session of this process, with Delta and Kafka, in UTC; started when there is none yet.

    ``extra`` adds or overrides options. Spark's log goes to ``$IOT_HOME/logs/spark/<app_name>.log``. A process has
    one JVM: of a second call only the SQL options take effect. ``quick_start`` suits short work: less to start, slower
    in the long run. ``start`` makes the session in place of this function, from the same ``spark_options``. Fetches missing
    jars. Raises ``ServiceError`` when Spark does not start.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    # What a callback raises comes back as an exception; the bridge would print its traceback too.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    running = SparkSession.getActiveSession()
    options: dict[str, Any] = spark_options(settings, app_name, quick_start=quick_start) | dict(extra or {})
    if running is None:
        prepare_launch(settings)
    try:
        session = running or (start or SparkSession.builder.config(map=options).getOrCreate)()
    except (PySparkException, Py4JJavaError, OSError) as error:
        log = log_file(settings, app_name)
        raise ServiceError(f"Spark does not start: {first_line(error)}", f"Its log is {log}") from None
    if running is not None:
        for key, value in (extra or {}).items():
            session.conf.set(key, value)
    else:
        show_keys(session, settings)
    return session


def spark_options(settings: Settings, app_name: str = "iot", *, quick_start: bool = False) -> dict[str, str]:
    """The session's options, each for a reason that stands beside it. Pure, and without a secret: people see them."""
    if settings.spark_master == SUBMITTED:
        return dict(SQL_OPTIONS)
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
        "spark.master": settings.spark_master,
        "spark.app.name": app_name,
        "spark.jars": ",".join(str(jar) for group in jar_groups(settings) for jar in group_files(settings, group)),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        **SQL_OPTIONS,
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
        # zstd, and growing numbers delta-encoded instead of in dictionaries that never repeat: 0.8 bytes a reading for 3.
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.hadoop.parquet.writer.version": "v2",
        **{f"spark.hadoop.parquet.enable.dictionary#{column}": "false" for column in WITHOUT_DICTIONARY},
        # 50 tasks to replay a small Delta log cost 9 s of a count's 11.7 s.
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    if settings.spark_master.startswith("local"):
        options |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    if S3A_GROUP in jar_groups(settings):
        options |= s3a_options(Storage.of(settings))
    return options


def jar_groups(settings: Settings) -> list[str]:
    """The groups of ``jars.lock`` that the session needs: with the engine on Spark and the lake in a bucket, S3A too."""
    on_s3 = settings.engine == "spark" and settings.lake_root.startswith("s3://")
    return ["spark", *([S3A_GROUP] if on_s3 else [])]


def s3a_options(storage: Storage) -> dict[str, str]:
    """Hadoop's S3 client under the lake's own scheme, told what delta-rs and pyarrow are told. Without the keys."""
    secure = not storage.endpoint.startswith("http://")
    named = {
        "endpoint": storage.endpoint,
        "endpoint.region": storage.region,
        "path.style.access": "true" if storage.endpoint else "",
        "connection.ssl.enabled": str(secure).lower(),
        # The other stream reads ahead by whole columns for analytics on AWS, and its defaults need AWS's native library.
        "input.stream.type": "classic",
        # A bucket that cannot be reached is told after seconds: by default after many minutes.
        "retry.limit": "3",
        "attempts.maximum": "3",
        "aws.credentials.provider": ",".join(credential_providers(storage)),
    }
    options = {f"spark.hadoop.fs.s3a.{name}": value for name, value in named.items() if value}
    return options | {"spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem"}


def credential_providers(storage: Storage) -> list[str]:
    """Who tells Hadoop's client the keys: they that are given, else where AWS's own programs look."""
    if not storage.access_key_id:
        return ["software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"]
    kind = "Temporary" if storage.session_token else "Simple"
    return [f"org.apache.hadoop.fs.s3a.{kind}AWSCredentialsProvider"]


def show_keys(session: SparkSession, settings: Settings) -> None:
    """Give a started Spark the bucket's keys. Among its options they would stand in the list of processes."""
    if S3A_GROUP not in jar_groups(settings) or settings.spark_master == SUBMITTED:
        return
    storage = Storage.of(settings)
    context: Any = session.sparkContext
    keys = {"access": storage.access_key_id, "secret": storage.secret_access_key}
    for name, value in keys.items():
        if value:
            context._jsc.hadoopConfiguration().set(f"fs.s3a.{name}.key", value)
    if storage.session_token:
        context._jsc.hadoopConfiguration().set("fs.s3a.session.token", storage.session_token)


def log_file(settings: Settings, app_name: str) -> Path:
    return settings.logs / "spark" / f"{app_name}.log"


def prepare_launch(settings: Settings) -> None:
    """Fetch missing jars, make the folders that Spark writes to and let its start script find our Java.

    The start script takes Java and addresses from this process's environment only, there is no option for them.
    """
    from iot_platform.local.java import java_home

    if settings.spark_master == SUBMITTED:
        return
    for group in jar_groups(settings):
        fetch_group(settings, group)
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
