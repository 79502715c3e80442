"""The one place that reads the environment. Every setting is ``IOT_<NAME>``, from the environment or ``.env``.

Java and S3 are told by the names that all their programs know: ``JAVA_HOME``, ``AWS_…``.
"""

from __future__ import annotations

import json
import os
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from iot_platform.errors import InputError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SHIPPED_THRESHOLDS = PROJECT_ROOT / "iot_platform" / "thresholds.yaml"
SUBMITTED = "submitted"
"""The ``spark_master`` of a program that runs under spark-submit."""
NOT_OURS = ("JAVA_HOME", "AWS_")
"""How the names begin that are not ``IOT_<NAME>``."""


class Settings(BaseSettings):
    """Everything a deployment may choose. Paths that are relative count from the project's root."""

    model_config = SettingsConfigDict(
        env_prefix="IOT_", env_file=PROJECT_ROOT / ".env", extra="ignore", frozen=True, populate_by_name=True
    )

    home: Path = Field(Path(".iot"), description="all local state: services, lake, marts, logs, Dagster's history")
    lake: str = Field("", description="root of the Delta tables, a folder or s3://…; default $IOT_HOME/lake")
    engine: Literal["duckdb", "spark"] = Field("duckdb", description="what runs the transforms")
    kafka_bootstrap: str = Field(
        "", description="host:port[,…] of a broker of yours; empty: the local one of `iot services up`"
    )
    kafka_options: dict[str, str] = Field(
        default_factory=dict, description="further librdkafka options as JSON, e.g. security.protocol"
    )
    topics_file: Path = Field(PROJECT_ROOT / "iot_platform" / "topics.yaml", description="topics, partitions, retention")
    thresholds_file: Path = Field(SHIPPED_THRESHOLDS, description="from which figures on checks warn or fail")
    java: Literal["auto", "system", "bundled"] = Field(
        "auto", description="which Java runs Kafka and Spark; auto: the machine's when it is 17 or newer, else the bundled"
    )
    java_home: str = Field("", validation_alias="JAVA_HOME", description="the machine's Java, as other programs know it")
    jar_cache: Path = Field(
        Path("~/.cache/iot_platform/jars"), description="fetched jars, shared by all clones and homes of this user"
    )
    maven_repository: str = Field(
        "", description="base address of a Maven repository; default: the mirror in ~/.m2/settings.xml, else the central one"
    )
    aws_endpoint_url: str = Field(
        "", validation_alias="AWS_ENDPOINT_URL", description="S3 server of a lake on s3://, http(s)://host:port; default AWS"
    )
    aws_allow_http: bool = Field(
        False, validation_alias="AWS_ALLOW_HTTP", description="whether that server may be spoken to without encryption"
    )
    aws_region: str = Field("", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"), description="its region")
    aws_access_key_id: SecretStr = Field(
        SecretStr(""), validation_alias="AWS_ACCESS_KEY_ID", description="its keys; none: the profile or the machine's role"
    )
    aws_secret_access_key: SecretStr = Field(SecretStr(""), validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretStr = Field(SecretStr(""), validation_alias="AWS_SESSION_TOKEN")
    rollback_on_failed_check: bool = Field(
        False, description="whether a date whose blocking check fails after its commit is put back and held (iot rollback)"
    )
    versions_kept_days: int = Field(7, ge=7, description="maintenance removes what only older versions of tables need")
    keep_bronze_days: int = Field(
        0, ge=0, description="Bronze of older dates is deleted and the dates are closed for good; 0: for ever"
    )
    keep_silver_days: int = Field(0, ge=0, description="Silver of older dates is deleted; 0: for ever")
    keep_gold_days: int = Field(0, ge=0, description="Gold of older dates is deleted; 0: for ever")
    keep_quarantine_days: int = Field(0, ge=0, description="messages that were quarantined before are deleted; 0: for ever")
    runs_kept_days: int = Field(30, ge=1, description="maintenance forgets older runs that nothing newest is of")
    dagster_postgres_url: SecretStr = Field(
        SecretStr(""), description="postgresql://… for Dagster's history; empty: SQLite files in $IOT_HOME/dagster"
    )
    dead_letter: bool = Field(False, description="whether what goes to quarantine is also sent to a topic, with the reason")
    dead_letter_topic: str = Field("iot.dead-letter", min_length=1, description="that topic; made when it is not there")
    first_date: date = Field(date(2010, 1, 1), description="first partition; an older event time is quarantined")
    max_offsets_per_trigger: int = Field(2_000_000, gt=0, description="Kafka records a micro-batch takes at most")
    spool_megabytes: int = Field(
        1024, gt=0, description="disk for messages that no broker takes; once it is used up no further one is taken in"
    )
    stuck_seconds: float = Field(
        300, gt=0, description="a continuous ingest that commits nothing for so long while records wait is started again"
    )
    duckdb_memory: str = Field("4GB", description="memory limit of the DuckDB engine")
    duckdb_threads: int = Field(0, ge=0, description="threads of the DuckDB engine; 0: all cores")
    spark_memory: str = Field("2g", description="driver memory of local Spark")
    marts_dates: str = Field(
        "", description="dates (first/last, UTC) that a build of the marts is narrowed to; its builder says so to dbt"
    )
    marts_remake: bool = Field(False, description="whether that build makes those dates again, though nothing moved")
    spark_master: str = Field(
        "local[*]", description="Spark master; `submitted`: the one that spark-submit was told, with its own options"
    )
    compute: Literal["local", "emr_serverless", "emr"] = Field(
        "local", description="where derived tables are made: in the run's process, or by one job a step on AWS"
    )
    remote_code: str = Field("", description="s3://bucket/prefix of what `make package` made, for jobs on AWS")
    remote_python: str = Field("python3.11", description="Python 3.11 or newer on the cluster's machines")
    remote_spark: dict[str, str] = Field(
        default_factory=dict, description="further Spark options of a job as JSON, e.g. spark.executor.instances"
    )
    remote_timeout_minutes: int = Field(120, ge=5, description="after this time a job on EMR Serverless is ended")
    emr_application: str = Field("", description="EMR Serverless: the application's id")
    emr_role: str = Field("", description="EMR Serverless: ARN of the role that jobs run as")
    emr_job_flow: dict[str, Any] = Field(
        default_factory=dict, description="EMR: the cluster of a job as JSON, as run_job_flow takes it (ReleaseLabel, …)"
    )

    erase_key: SecretStr = Field(
        SecretStr(""), description="key of the hashes by which erased devices are known; empty: $IOT_HOME/erase.key"
    )
    dagster_url: str = Field("", description="where Dagster's UI is reached, for the links in messages, e.g. https://dagster.lan")
    slack_webhook_url: SecretStr = Field(SecretStr(""), description="Slack incoming webhook; empty: no messages to Slack")
    smtp_host: str = Field("", description="mail server; empty: no e-mail")
    smtp_port: int = Field(0, ge=0, le=65535, description="its port; 0: 587, 465 or 25, by its security")
    smtp_security: Literal["starttls", "tls", "none"] = Field("starttls", description="how it is spoken to")
    smtp_username: str = Field("", description="login at the mail server; empty: none")
    smtp_password: SecretStr = Field(SecretStr(""), description="its password")
    smtp_from: str = Field("", description="sender of the e-mails")
    smtp_to: str = Field("", description="their recipients, separated by commas")
    alert_warnings: Literal["none", "rates", "all"] = Field(
        "rates", description="what is an incident although it only warns: nothing, quarantine and late rate, or all"
    )
    alert_stale_minutes: float = Field(60, gt=0, description="a date older than its inputs for longer is an incident")
    alert_stuck_minutes: float = Field(10, gt=0, description="ingestion that gets nowhere for longer is an incident")
    alert_lag_records: int = Field(100_000, ge=0, description="records of one topic that may wait")
    alert_lag_minutes: float = Field(10, gt=0, description="more of them waiting for longer is an incident")
    alert_calm_minutes: float = Field(5, ge=0, description="what is not seen for so long is over; damps what comes and goes")
    alert_forget_days: float = Field(14, gt=0, description="failed runs and checks that nobody repeats are dropped then")

    @field_validator("home", "topics_file", "thresholds_file", "jar_cache")
    @classmethod
    def _from_root(cls, path: Path) -> Path:
        path = path.expanduser()
        return path if path.is_absolute() else PROJECT_ROOT / path

    @cached_property
    def lake_root(self) -> str:
        """Where the tables lie: ``<lake_root>/<layer>/<table>``; an absolute path or an ``s3://`` address."""
        if not self.lake:
            return str(self.home / "lake")
        if "://" in self.lake:
            return self.lake.rstrip("/")
        return str(self._from_root(Path(self.lake)))

    @property
    def checkpoints(self) -> Path:
        """Spark's streaming checkpoints, one folder a query and generation."""
        return self.home / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def marts(self) -> Path:
        """The DuckDB file that readers open; published by atomic rename."""
        return self.home / "marts" / "marts.duckdb"

    @property
    def reports(self) -> Path:
        """Folder of the finished reports: ``daily/<date>.md`` and ``.json``, ``p95/<Monday>.md`` and ``.csv``."""
        return self.home / "reports"

    @property
    def declarations(self) -> Path:
        """Folder of the CSV files that declare devices (``devices*.csv``) and metric bounds (``metrics*.csv``)."""
        return self.home / "registry"

    def exported(self, name: str) -> str | None:
        """The environment variable that gave this setting; None where a file, a default or the caller did."""
        variable = f"IOT_{name.upper()}"
        chosen = getattr(self, name)
        text = chosen.get_secret_value() if isinstance(chosen, SecretStr) else str(chosen)
        return variable if text and os.environ.get(variable) == text else None

    def environment(self) -> dict[str, str]:
        """This process's environment with these settings in it: for a child process that reads them itself."""
        chosen = self.model_dump(exclude={"java_home"})
        environment = dict(os.environ)
        for name, value in self.model_dump(mode="json", exclude={"java_home"}).items():
            secret = chosen[name]
            text = secret.get_secret_value() if isinstance(secret, SecretStr) else value
            text = text if isinstance(text, str) else json.dumps(text)
            if not name.upper().startswith(NOT_OURS):
                environment[f"IOT_{name.upper()}"] = text
            elif text:  # an empty key would hide the profile's
                environment[name.upper()] = text
        return environment


def exported_dagster_home() -> str:
    """Where Dagster was told to keep its history; empty when it was not told."""
    return os.environ.get("DAGSTER_HOME", "")


def exported_failpoints() -> str:
    """Where tests have this process die (see ``failpoints``); empty in production."""
    return os.environ.get("IOT_FAILPOINT", "")


def load_settings() -> Settings:
    """Read the settings now; a wrong value is an ``InputError`` that names the variable."""
    try:
        return Settings()  # pyright: ignore[reportCallIssue]
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).upper()
        name = name if name.startswith(NOT_OURS) else f"IOT_{name}"
        raise InputError(f"{name}: {first['msg']}", "Correct it in the environment or in .env") from None
