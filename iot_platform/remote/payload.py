"""What is asked of AWS for one job: pure functions from settings and job to whole request payloads.

No secret stands in them: a job has its role. What `make package` made lies at ``IOT_REMOTE_CODE`` under the names below.
"""

from __future__ import annotations

import shlex
from typing import Any

from iot_platform.errors import InputError
from iot_platform.remote.bucket import bucket_and_prefix
from iot_platform.remote.job import Job
from iot_platform.settings import SUBMITTED, Settings

ENTRY = "iot_remote.py"
ENVIRONMENT = "iot_environment.tar.gz"
UNPACKED = "environment"  # the archive's folder in a container's working directory
TAGS = {"application": "iot-platform"}


def job_environment(settings: Settings) -> dict[str, str]:
    """The settings of the job. State of its own lies in the container and ends with it."""
    chosen = {
        "IOT_LAKE": settings.lake_root,
        "IOT_ENGINE": settings.engine,
        "IOT_SPARK_MASTER": SUBMITTED,
        "IOT_HOME": "/tmp/iot",
        "IOT_FIRST_DATE": settings.first_date.isoformat(),
        "IOT_DUCKDB_MEMORY": settings.duckdb_memory,
        "AWS_REGION": settings.aws_region,
        "AWS_ENDPOINT_URL": settings.aws_endpoint_url,
        "AWS_ALLOW_HTTP": "true" if settings.aws_allow_http else "",
    }
    return {name: value for name, value in chosen.items() if value}


def emr_serverless(settings: Settings, job: Job) -> dict[str, Any]:
    """The parameters of EMR Serverless' ``start_job_run``. Raises ``InputError`` for a setting that is not there."""
    _check(settings, "emr_application", "emr_role")
    code = settings.remote_code.rstrip("/")
    options = _spark_options(settings, "spark.emr-serverless.driverEnv")
    return {
        "name": job.name,
        "applicationId": settings.emr_application,
        "executionRoleArn": settings.emr_role,
        "executionTimeoutMinutes": settings.remote_timeout_minutes,
        "tags": dict(TAGS),
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": f"{code}/{ENTRY}",
                "entryPointArguments": job.arguments(),
                "sparkSubmitParameters": shlex.join(_submit_arguments(options)),
            }
        },
        "configurationOverrides": {
            "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": f"{code}/logs/"}}
        },
    }


def emr(settings: Settings, job: Job) -> dict[str, Any]:
    """The parameters of EMR's ``run_job_flow``: a cluster that ends with its one step. Raises ``InputError`` likewise.

    Options go to spark-submit and not into a ``spark-defaults`` classification: the Pipes client adds its own of that name,
    and of two only one counts.
    """
    _check(settings, "emr_job_flow")
    code = settings.remote_code.rstrip("/")
    options = _spark_options(settings, "spark.yarn.appMasterEnv")
    given = settings.emr_job_flow
    submit = ["spark-submit", "--deploy-mode", "cluster", *_submit_arguments(options), f"{code}/{ENTRY}", *job.arguments()]
    return {
        "Applications": [{"Name": "Spark"}],
        "LogUri": f"{code}/logs/",
        **given,
        "Name": job.name,
        "Tags": [*given.get("Tags", []), *({"Key": key, "Value": value} for key, value in TAGS.items())],
        "Instances": {**given.get("Instances", {}), "KeepJobFlowAliveWhenNoSteps": False},
        "Steps": [
            {
                "Name": job.name,
                "ActionOnFailure": "TERMINATE_CLUSTER",
                "HadoopJarStep": {"Jar": "command-runner.jar", "Args": submit},
            }
        ],
    }


def _spark_options(settings: Settings, driver_environment: str) -> dict[str, str]:
    """Spark's options: the archive, the interpreter, and the settings as the driver's environment."""
    code = settings.remote_code.rstrip("/")
    python = {"PYSPARK_PYTHON": settings.remote_python, "PYTHONPATH": f"./{UNPACKED}"}
    driver = {**python, "PYSPARK_DRIVER_PYTHON": settings.remote_python, **job_environment(settings)}
    return {
        "spark.archives": f"{code}/{ENVIRONMENT}#{UNPACKED}",
        **{f"{driver_environment}.{name}": value for name, value in driver.items()},
        **{f"spark.executorEnv.{name}": value for name, value in python.items()},
        **settings.remote_spark,
    }


def _submit_arguments(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("--conf", f"{name}={value}")]


def _check(settings: Settings, *needed: str) -> None:
    """Everything that a job needs is said before AWS is asked for anything."""
    for name in ("remote_code", *needed):
        if not getattr(settings, name):
            raise InputError(f"IOT_COMPUTE={settings.compute} needs IOT_{name.upper()}", "See docs/cluster.md.")
    bucket_and_prefix(settings.remote_code)
    if not settings.lake_root.startswith("s3://"):
        raise InputError(
            f"IOT_COMPUTE={settings.compute} needs a lake that jobs reach, and {settings.lake_root} is none",
            "Set IOT_LAKE=s3://bucket/prefix.",
        )
