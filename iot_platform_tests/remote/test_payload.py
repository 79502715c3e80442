"""What is asked of AWS, as whole payloads: a change of any word of them is seen here."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from iot_platform.errors import InputError
from iot_platform.remote.job import Job
from iot_platform.remote.payload import emr, emr_serverless
from iot_platform_tests.conftest import MakeSettings

JOB = Job("gold/sensor_health", (date(2026, 3, 10), date(2026, 3, 11)), True, datetime(2026, 3, 20, 6, tzinfo=UTC))
ARGUMENTS = [
    "--table", "gold/sensor_health", "--dates", "2026-03-10..2026-03-11", "--now", "2026-03-20T06:00:00+00:00", "--force",
]  # fmt: skip
CHOSEN: dict[str, Any] = {
    "lake": "s3://data/lake",
    "engine": "spark",
    "aws_region": "eu-central-1",
    "aws_access_key_id": "AKIA-of-dagster",
    "aws_secret_access_key": "never-told",
    "remote_code": "s3://code/iot/1/",
    "remote_spark": {"spark.executor.instances": "4", "spark.executor.extraJavaOptions": "-Da=1 -Db=2"},
    "emr_application": "00f1",
    "emr_role": "arn:aws:iam::123456789012:role/jobs",
    "emr_job_flow": {
        "ReleaseLabel": "emr-of-yours",
        "ServiceRole": "EMR_DefaultRole",
        "JobFlowRole": "EMR_EC2_DefaultRole",
        "Instances": {"InstanceCount": 3, "MasterInstanceType": "m7g.xlarge", "Ec2SubnetId": "subnet-1"},
        "Tags": [{"Key": "team", "Value": "iot"}],
    },
}


def driver_environment(name: str) -> list[str]:
    """The settings of the job, as options of the driver's environment."""
    return [
        "--conf", f"{name}.PYSPARK_PYTHON=python3.11",
        "--conf", f"{name}.PYTHONPATH=./environment",
        "--conf", f"{name}.PYSPARK_DRIVER_PYTHON=python3.11",
        "--conf", f"{name}.IOT_LAKE=s3://data/lake",
        "--conf", f"{name}.IOT_ENGINE=spark",
        "--conf", f"{name}.IOT_SPARK_MASTER=submitted",
        "--conf", f"{name}.IOT_HOME=/tmp/iot",
        "--conf", f"{name}.IOT_FIRST_DATE=2010-01-01",
        "--conf", f"{name}.IOT_DUCKDB_MEMORY=4GB",
        "--conf", f"{name}.AWS_REGION=eu-central-1",
    ]  # fmt: skip


def test_the_payload_of_emr_serverless(make_settings: MakeSettings) -> None:
    driver = " ".join(driver_environment("spark.emr-serverless.driverEnv"))
    assert emr_serverless(make_settings(compute="emr_serverless", **CHOSEN), JOB) == {
        "name": "iot gold/sensor_health 2026-03-10..2026-03-11",
        "applicationId": "00f1",
        "executionRoleArn": "arn:aws:iam::123456789012:role/jobs",
        "executionTimeoutMinutes": 120,
        "tags": {"application": "iot-platform"},
        "jobDriver": {
            "sparkSubmit": {
                "entryPoint": "s3://code/iot/1/iot_remote.py",
                "entryPointArguments": ARGUMENTS,
                "sparkSubmitParameters": (
                    "--conf 'spark.archives=s3://code/iot/1/iot_environment.tar.gz#environment' "
                    f"{driver} "
                    "--conf spark.executorEnv.PYSPARK_PYTHON=python3.11 --conf spark.executorEnv.PYTHONPATH=./environment "
                    "--conf spark.executor.instances=4 --conf 'spark.executor.extraJavaOptions=-Da=1 -Db=2'"
                ),
            }
        },
        "configurationOverrides": {
            "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": "s3://code/iot/1/logs/"}}
        },
    }


def test_the_payload_of_emr(make_settings: MakeSettings) -> None:
    assert emr(make_settings(compute="emr", **CHOSEN), JOB) == {
        "Name": "iot gold/sensor_health 2026-03-10..2026-03-11",
        "ReleaseLabel": "emr-of-yours",
        "ServiceRole": "EMR_DefaultRole",
        "JobFlowRole": "EMR_EC2_DefaultRole",
        "Applications": [{"Name": "Spark"}],
        "LogUri": "s3://code/iot/1/logs/",
        "Tags": [{"Key": "team", "Value": "iot"}, {"Key": "application", "Value": "iot-platform"}],
        "Instances": {
            "InstanceCount": 3, "MasterInstanceType": "m7g.xlarge", "Ec2SubnetId": "subnet-1",
            "KeepJobFlowAliveWhenNoSteps": False,
        },
        "Steps": [
            {
                "Name": "iot gold/sensor_health 2026-03-10..2026-03-11",
                "ActionOnFailure": "TERMINATE_CLUSTER",
                "HadoopJarStep": {
                    "Jar": "command-runner.jar",
                    "Args": [
                        "spark-submit", "--deploy-mode", "cluster",
                        "--conf", "spark.archives=s3://code/iot/1/iot_environment.tar.gz#environment",
                        *driver_environment("spark.yarn.appMasterEnv"),
                        "--conf", "spark.executorEnv.PYSPARK_PYTHON=python3.11",
                        "--conf", "spark.executorEnv.PYTHONPATH=./environment",
                        "--conf", "spark.executor.instances=4",
                        "--conf", "spark.executor.extraJavaOptions=-Da=1 -Db=2",
                        "s3://code/iot/1/iot_remote.py", *ARGUMENTS,
                    ],
                },
            }
        ],
    }  # fmt: skip


def test_no_key_of_the_launching_side_is_told(make_settings: MakeSettings) -> None:
    settings = make_settings(**CHOSEN)
    told = json.dumps([emr(settings, JOB), emr_serverless(settings, JOB)])
    assert "never-told" not in told and "AKIA" not in told


@pytest.mark.parametrize(
    ("service", "without", "told"),
    [
        ("emr_serverless", {"emr_application": ""}, "IOT_COMPUTE=emr_serverless needs IOT_EMR_APPLICATION"),
        ("emr_serverless", {"remote_code": ""}, "needs IOT_REMOTE_CODE"),
        ("emr_serverless", {"remote_code": "/tmp/code"}, "'/tmp/code' is no bucket"),
        ("emr", {"emr_job_flow": {}}, "IOT_COMPUTE=emr needs IOT_EMR_JOB_FLOW"),
        ("emr", {"lake": ""}, "needs a lake that jobs reach"),
    ],
)
def test_a_setting_that_a_job_lacks_is_named(
    make_settings: MakeSettings, service: str, without: dict[str, Any], told: str
) -> None:
    settings = make_settings(**(CHOSEN | {"compute": service} | without))
    with pytest.raises(InputError, match=told):
        (emr if service == "emr" else emr_serverless)(settings, JOB)
