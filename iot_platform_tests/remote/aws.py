"""AWS's scheduling of jobs, emulated: moto answers the calls, and a launched job runs as a real process on this machine.

What is emulated: EMR taking a job, starting containers, unpacking the archive, giving the role's keys, telling the state.
What is real: the request, the command line and environment that stand in it, the process, the bucket, and all that both
ends say to each other.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.emr.models import ElasticMapReduceBackend
from moto.emrserverless.models import EMRServerlessBackend

from iot_platform.settings import Settings

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/jobs"
SERVERLESS, YARN = "spark.emr-serverless.driverEnv.", "spark.yarn.appMasterEnv."


@dataclass
class Aws:
    """What was asked for, and the processes that ran. ``program`` runs a job's arguments; ``role`` is its environment."""

    program: list[str]
    role: Mapping[str, str]
    folder: Path
    asked: list[dict[str, Any]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self, arguments: list[str], environment: Mapping[str, str], ended: Any) -> None:
        """Run a job; ``ended`` is called with its exit code."""

        def run() -> None:
            clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "IOT_", "DAGSTER_"))}
            with (self.folder / "job.log").open("a") as log:
                ran = subprocess.run(
                    [*self.program, *arguments], env=clean | dict(environment) | dict(self.role), cwd=self.folder,
                    stdout=log, stderr=log, check=False, timeout=240,
                )  # fmt: skip
            ended(ran.returncode)

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    @property
    def log(self) -> str:
        return (self.folder / "job.log").read_text()


def job_role(settings: Settings, **chosen: str) -> dict[str, str]:
    """What a container gives a job besides what the payload says: the keys of its role, and a state folder of its own."""
    return {
        "AWS_ACCESS_KEY_ID": settings.aws_access_key_id.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": settings.aws_secret_access_key.get_secret_value(),
        "AWS_EC2_METADATA_DISABLED": "true",
        "IOT_HOME": str(settings.home / "job"),
        **chosen,
    }


def environment_of(options: list[str], prefix: str) -> dict[str, str]:
    """The driver's environment among the options of spark-submit. No archive is unpacked here: its path means nothing."""
    pairs = (option.removeprefix(prefix).split("=", 1) for option in options if option.startswith(prefix))
    return {name: value for name, value in pairs if not name.startswith(("PYTHON", "PYSPARK"))}


@contextmanager
def scheduling(aws: Aws, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """AWS for the time of the block; the id of a Spark application on EMR Serverless."""
    start_serverless, start_flow = EMRServerlessBackend.start_job_run, ElasticMapReduceBackend.run_job_flow

    def start_job_run(self: EMRServerlessBackend, **payload: Any) -> Any:
        job = start_serverless(self, **payload)
        aws.asked.append(payload)
        submit = payload["job_driver"]["sparkSubmit"]
        environment = environment_of(shlex.split(submit["sparkSubmitParameters"]), SERVERLESS)
        job.state = "RUNNING"

        def ended(code: int) -> None:
            if job.state == "RUNNING":
                job.state, job.state_details = ("FAILED", f"exit code {code}") if code else ("SUCCESS", "")

        aws.start(submit["entryPointArguments"], environment, ended)
        return job

    def run_job_flow(self: ElasticMapReduceBackend, **payload: Any) -> Any:
        cluster = start_flow(self, **payload)
        aws.asked.append(payload)
        words = list(payload["steps"][0]["hadoop_jar_step"]["args"])
        environment = environment_of(words, YARN)
        pipes = next(one for one in payload["configurations"] if one["classification"] == "spark-defaults")["properties"]
        environment |= environment_of([f"{name}={value}" for name, value in pipes.items()], YARN)
        aws.start(words[words.index("--table"):], environment, lambda _code: cluster.terminate())
        return cluster

    patch.setattr(EMRServerlessBackend, "start_job_run", start_job_run)
    patch.setattr(ElasticMapReduceBackend, "run_job_flow", run_job_flow)
    with mock_aws():
        client = boto3.client("emr-serverless", region_name=REGION)
        application = client.create_application(name="iot", releaseLabel="emr-7.0.0", type="SPARK")["applicationId"]
        try:
            yield application
        finally:
            for thread in aws.threads:
                thread.join(300)


def quick(client: Any) -> Any:
    """The client as moto needs it: no link to a dashboard, and waiters that look twice a second."""

    def no_dashboard(**_: Any) -> tuple[Any, dict[str, str]]:
        return type("Answer", (), {"status_code": 200})(), {"url": "https://dashboard"}

    client.meta.events.register("before-call.emr-serverless.GetDashboardForJobRun", no_dashboard)
    waiter_of = client.get_waiter

    def get_waiter(name: str) -> Any:
        waiter = waiter_of(name)
        waiter.config.delay = 0.5
        return waiter

    client.get_waiter = get_waiter
    return client


def in_this_environment() -> list[str]:
    """The program of a job, run by the interpreter of the tests."""
    return [sys.executable, "-m", "iot_platform.remote.main"]
