"""Launching a job from a Dagster step and waiting for it, by dagster-aws's Pipes clients; what it told of its dates.

The clients start the job, follow its state, cancel it when the step is cancelled, and pass on its log; messages come through
the bucket of ``IOT_REMOTE_CODE`` below ``pipes/``. Nothing here knows tables or dates.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster_aws.pipes import PipesEMRClient, PipesEMRServerlessClient, PipesS3ContextInjector, PipesS3MessageReader

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.remote.bucket import bucket_and_prefix, credentials, s3_client
from iot_platform.remote.job import Job
from iot_platform.remote.payload import emr, emr_serverless
from iot_platform.settings import Settings

POLL_SECONDS = 5.0


class JobMessages(PipesS3MessageReader):
    """Dagster's reader of messages in a bucket, below a prefix of ours; what came is kept when the job fails too."""

    def __init__(self, client: Any, bucket: str, prefix: str, interval: float) -> None:
        super().__init__(client=client, bucket=bucket, interval=interval)
        self._prefix = prefix
        self._handler: Any = None

    @contextmanager
    def get_params(self) -> Iterator[Any]:
        with super().get_params() as params:
            yield {**params, "key_prefix": f"{self._prefix}{secrets.token_hex(8)}"}

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[Any]:
        self._handler = handler
        with super().read_messages(handler) as params:
            yield params

    @property
    def told(self) -> Sequence[Any]:
        """The job's own messages, in their order."""
        return self._handler.get_custom_messages() if self._handler else ()


class ServerlessClient(PipesEMRServerlessClient):
    """dagster-aws's client; a failure says which job and why, and no log line claims that messages are not read."""

    def _wait_for_completion(self, context: Any, start_response: Any) -> Any:
        try:
            return super()._wait_for_completion(context, start_response)
        except RuntimeError:
            place = {"applicationId": start_response["applicationId"], "jobRunId": start_response["jobRunId"]}
            run = self.client.get_job_run(**place)["jobRun"]
            why = run.get("stateDetails") or "no details given"
            raise ServiceError(
                f"EMR Serverless job {run['jobRunId']} ended {run['state']}: {why}",
                "Its log lies below logs/ at IOT_REMOTE_CODE.",
            ) from None

    def _read_messages(self, context: Any, session: Any, response: Any) -> None:
        """The reader of the bucket reads on its own; the client would look for messages in CloudWatch."""


class Launcher:
    """Launches jobs by the service that ``IOT_COMPUTE`` names. ``poll_seconds`` lies between two looks at a job."""

    def __init__(self, settings: Settings, poll_seconds: float | None = None) -> None:
        self.settings = settings
        self.poll_seconds = POLL_SECONDS if poll_seconds is None else poll_seconds

    def run(self, context: dg.AssetExecutionContext, job: Job) -> tuple[Sequence[Any], PlatformError | None]:
        """Launch the job and wait for its end: what it told, and why it failed if it did.

        Raises ``InputError`` for settings that are not there.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        start = self._serverless if self.settings.compute == "emr_serverless" else self._emr
        bucket, prefix = bucket_and_prefix(self.settings.remote_code) if self.settings.remote_code else ("", "")
        below = f"{prefix}/pipes/".lstrip("/")
        client = s3_client(self.settings)
        messages = JobMessages(client, bucket, below, self.poll_seconds)
        injector = PipesS3ContextInjector(bucket=bucket, client=client, key_prefix=below)
        try:
            start(context, job, messages, injector)
        except ServiceError as error:
            return messages.told, error
        except (BotoCoreError, ClientError) as error:
            return messages.told, ServiceError(
                f"AWS refused or lost the job: {' '.join(str(error).split())[:300]}",
                "Check the role's rights and IOT_EMR_…: see docs/cluster.md.",
            )
        return messages.told, None

    def _serverless(self, context: Any, job: Job, messages: JobMessages, injector: PipesS3ContextInjector) -> None:
        payload = emr_serverless(self.settings, job)
        ServerlessClient(
            client=self._aws("emr-serverless"), context_injector=injector, message_reader=messages,
            poll_interval=self.poll_seconds,
        ).run(context=context, start_job_run_params=payload)  # fmt: skip  # pyright: ignore[reportArgumentType]

    def _emr(self, context: Any, job: Job, messages: JobMessages, injector: PipesS3ContextInjector) -> None:
        payload = emr(self.settings, job)
        messages.include_stdio_in_messages = True  # the client then waits for no log files after the end
        PipesEMRClient(
            client=self._aws("emr"), context_injector=injector, message_reader=messages,
        ).run(context=context, run_job_flow_params=payload)  # fmt: skip  # pyright: ignore[reportArgumentType]

    def _aws(self, service: str) -> Any:
        import boto3

        return boto3.client(service, **credentials(self.settings))  # pyright: ignore[reportCallIssue, reportArgumentType]
