"""A step that is made by a job on AWS: launched, followed, cancelled; each date reported as the job told of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from iot_platform.assets.derived import derived_asset
from iot_platform.assets.metadata import asset_key
from iot_platform.assets.platform import Platform
from iot_platform.automation.partitions import daily
from iot_platform.lake import Lake
from iot_platform.remote.launch import Launcher
from iot_platform.settings import Settings
from iot_platform.transforms.catalog import TRANSFORMS
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake
from iot_platform_tests.remote.aws import REGION, ROLE, Aws, in_this_environment, job_role, quick, scheduling

if TYPE_CHECKING:
    from iot_platform_tests.conftest import MakeSettings
    from iot_platform_tests.s3_server import S3Server

pytestmark = pytest.mark.integration

SILVER = "silver/readings"
CODE = "s3://lake/code"
FLOW = {"ReleaseLabel": "emr-7.0.0", "JobFlowRole": "EMR_EC2_DefaultRole", "ServiceRole": "EMR_DefaultRole"}
FLOW |= {"Instances": {"InstanceCount": 1, "MasterInstanceType": "m5.large"}}


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    launch = Launcher._aws
    monkeypatch.setattr(Launcher, "_aws", lambda self, service: quick(launch(self, service)))
    monkeypatch.setattr("iot_platform.remote.launch.POLL_SECONDS", 0.5)
    # How long Dagster waits for messages and log files that do not come.
    monkeypatch.setattr("dagster._core.pipes.utils.WAIT_FOR_LOGS_AFTER_EXECUTION_INTERVAL", 1)
    monkeypatch.setattr("dagster._core.pipes.utils.WAIT_FOR_LOGS_TIMEOUT", 1)
    return monkeypatch


@pytest.fixture
def on_s3(s3: S3Server, make_settings: MakeSettings) -> Settings:
    return make_settings(**s3.lake(), aws_region=REGION, emr_role=ROLE, emr_job_flow=FLOW, remote_code=CODE)


@pytest.fixture
def aws(on_s3: Settings, tmp_path: Path) -> Aws:
    return Aws(in_this_environment(), job_role(on_s3), tmp_path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def launch(settings: Settings, instance: dg.DagsterInstance, first: date, last: date) -> dg.ExecuteInProcessResult:
    """Materialize Silver of a range in one run, as the UI would ask for it."""
    settings = settings.model_copy(update={"home": settings.home / "dagster"})
    platform = Platform(settings)
    silver = derived_asset(TRANSFORMS[SILVER], settings, daily(settings))
    tags = {"dagster/asset_partition_range_start": first.isoformat(), "dagster/asset_partition_range_end": last.isoformat()}
    job = dg.Definitions(assets=[silver], resources={"platform": platform}).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def materialized(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Per partition, the metadata that Dagster was told."""
    records = instance.fetch_materializations(dg.AssetRecordsFilter(asset_key=asset_key(SILVER)), limit=10).records
    return {record.partition_key or "": record.asset_materialization.metadata for record in records}  # pyright: ignore


@pytest.mark.parametrize("service", ["emr_serverless", "emr"])
def test_a_range_is_one_job_and_every_date_is_reported(
    service: str, on_s3: Settings, aws: Aws, patch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    small = SmallLake(Lake(on_s3))
    small.day(D, 24)
    small.day(D + DAY, 48)
    with scheduling(aws, patch) as application:
        settings = on_s3.model_copy(update={"compute": service, "emr_application": application})
        result = launch(settings, instance, D, D + DAY)
    assert result.success, aws.log
    assert len(aws.asked) == 1
    made = Lake(on_s3).snapshot(SILVER)
    assert made.rows_by_date == {D: 24, D + DAY: 48}
    reported = materialized(instance)
    assert {key: metadata["dagster/partition_row_count"].value for key, metadata in reported.items()} == {
        D.isoformat(): 24, (D + DAY).isoformat(): 48,
    }  # fmt: skip
    assert reported[D.isoformat()]["engine"].value == "duckdb"
    assert made.recorded_level(D) == reported[D.isoformat()]["level"].value
    keys = [item["Key"] for item in _bucket(on_s3).get("Contents", [])]
    assert any(key.startswith("code/pipes/") for key in keys), "messages lie below the code"


def _bucket(settings: Settings) -> Any:
    from iot_platform.remote.bucket import s3_client

    return s3_client(settings).list_objects_v2(Bucket="lake", Prefix="code/")


def test_a_date_that_fails_there_is_left_as_it_was_and_named_here(
    on_s3: Settings, aws: Aws, patch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    patch.setattr("iot_platform.assets.derived.RETRY", dg.RetryPolicy(max_retries=0))
    lake = Lake(on_s3)
    small = SmallLake(lake)
    small.day(D)
    small.day(D + 2 * DAY)
    broken = lake.snapshot("bronze/readings").files([D + 2 * DAY])[0]
    _delete(on_s3, broken)
    with scheduling(aws, patch) as application:
        settings = on_s3.model_copy(update={"compute": "emr_serverless", "emr_application": application})
        result = launch(settings, instance, D, D + 2 * DAY)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    told = failure.step_failure_data.error_display_string
    assert f"not made: {(D + 2 * DAY).isoformat()}; made: 2 date(s)" in told and "cannot read an input" in told
    assert set(materialized(instance)) == {D.isoformat(), (D + DAY).isoformat()}
    assert lake.snapshot(SILVER).recorded_level(D) > 0 == lake.snapshot(SILVER).recorded_level(D + 2 * DAY)


def _delete(settings: Settings, address: str) -> None:
    from iot_platform.remote.bucket import bucket_and_prefix, s3_client

    bucket, key = bucket_and_prefix(address)
    s3_client(settings).delete_object(Bucket=bucket, Key=key)


def step_failure(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    return failure.step_failure_data.error_display_string


def test_a_job_that_dies_without_a_word_is_named_with_its_reason(
    on_s3: Settings, aws: Aws, patch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    patch.setattr("iot_platform.assets.derived.RETRY", dg.RetryPolicy(max_retries=0))
    aws.program = ["false"]
    with scheduling(aws, patch) as application:
        settings = on_s3.model_copy(update={"compute": "emr_serverless", "emr_application": application})
        result = launch(settings, instance, D, D)
    told = step_failure(result)
    assert f"not made: {D.isoformat()}; made: 0 date(s)" in told
    assert "ended FAILED: exit code 1" in told


def test_what_aws_refuses_is_one_line(
    on_s3: Settings, aws: Aws, patch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    patch.setattr("iot_platform.assets.derived.RETRY", dg.RetryPolicy(max_retries=0))
    with scheduling(aws, patch):
        settings = on_s3.model_copy(update={"compute": "emr_serverless", "emr_application": "nobodys"})
        told = step_failure(launch(settings, instance, D, D))
        unset = on_s3.model_copy(update={"compute": "emr_serverless", "remote_code": ""})
        assert "IOT_COMPUTE=emr_serverless needs IOT_REMOTE_CODE" in step_failure(launch(unset, instance, D, D))
    assert "AWS refused or lost the job" in told and "nobodys" in told
    assert aws.asked == []


def test_a_cancelled_step_cancels_its_job(
    on_s3: Settings, aws: Aws, patch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    patch.setattr("iot_platform.assets.derived.RETRY", None)  # Dagster would try an interrupted step again
    aws.program = ["sh", "-c", "sleep 2"]
    looks: list[str] = []

    def interrupt(**_: Any) -> None:
        looks.append("looked")
        if len(looks) == 2:
            raise DagsterExecutionInterruptedError

    with scheduling(aws, patch) as application:
        settings = on_s3.model_copy(update={"compute": "emr_serverless", "emr_application": application})
        plain = Launcher._aws

        def interrupted(self: Launcher, service: str) -> Any:
            client = plain(self, service)
            client.meta.events.register("before-call.emr-serverless.GetJobRun", interrupt)
            return client

        patch.setattr(Launcher, "_aws", interrupted)
        assert not launch(settings, instance, D, D).success
        (job,) = boto3.client("emr-serverless", region_name=REGION).list_job_runs(applicationId=application)["jobRuns"]
        assert job["state"] == "CANCELLED"
