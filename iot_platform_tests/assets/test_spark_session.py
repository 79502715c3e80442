"""The Spark engine's session in Dagster is the resource ``spark``: its options are shown; it starts when it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from iot_platform.assets.compute import LocalCompute, RemoteCompute, platform_resources
from iot_platform.definitions import build_defs
from iot_platform.engines.session import spark_options
from iot_platform_tests.conftest import MakeSettings

PROGRAM = """
import json
from iot_platform.assets.compute import platform_resources
from iot_platform.settings import load_settings
from iot_platform_tests.engines.lakes import WINDOWS, of
from iot_platform_tests.transforms.rows import silver, views
resources = platform_resources(load_settings())
platform, spark = resources["platform"], resources["spark"]
found = [spark._spark_session is None]
inputs = views("gold/sensor_windows", {"silver_readings": [silver()]})
with platform.engine.compute(WINDOWS, inputs, of()) as derived:
    found.append(derived.rows)
found.append(platform.engine._owned is spark.spark_session)
found.append(spark.spark_context.master)
found.append(spark.spark_session.conf.get("spark.sql.session.timeZone"))
platform.close()
found.append(spark._spark_session is None)
print(json.dumps(found))
"""


def test_the_resource_shows_the_one_configuration_and_no_secret(make_settings: MakeSettings, dbt_manifest: Path) -> None:
    settings = make_settings(
        engine="spark", lake="s3://bucket/lake", aws_access_key_id="AKIA", aws_secret_access_key="never-told"
    )
    resources = build_defs(settings, manifest=dbt_manifest).resources or {}
    shown = resources["spark"].spark_config
    assert shown == spark_options(settings)
    assert "never-told" not in json.dumps(shown) and "AKIA" not in json.dumps(shown)
    assert not settings.home.exists(), "nothing was started or fetched"


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({"engine": "duckdb"}, {"platform"}),
        ({"engine": "spark"}, {"platform", "spark"}),
        ({"engine": "spark", "compute": "emr"}, {"platform"}),
    ],
)
def test_a_session_is_there_for_an_engine_of_this_process(
    make_settings: MakeSettings, chosen: dict[str, str], names: set[str]
) -> None:
    resources = platform_resources(make_settings(**chosen))
    assert set(resources) == names
    assert isinstance(resources["platform"].compute, RemoteCompute if "compute" in chosen else LocalCompute)


@pytest.mark.integration
def test_the_engine_s_session_comes_from_the_resource_when_it_first_computes(make_settings: MakeSettings) -> None:
    settings = make_settings(engine="spark", spark_master="local[1]")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=settings.environment(), capture_output=True, text=True, check=False, timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [True, 1, True, "local[1]", "UTC", True]
