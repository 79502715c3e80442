"""Devices and metrics that nobody declared are listed."""

from __future__ import annotations

from iot_platform.checks.known import devices_are_declared, metrics_are_declared
from iot_platform_tests.assets.small_lake import D, SmallLake
from iot_platform_tests.checks.conftest import Inspect
from iot_platform_tests.checks.rows import device, metric, usable


def test_declared_devices_pass(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable()])
    small.put("registry/devices", None, [device("d1"), device("silent one", "inferred")])
    assert devices_are_declared(inspect(), D).passed


def test_inferred_and_unknown_devices_are_listed_with_their_readings(small: SmallLake, inspect: Inspect) -> None:
    devices = ("d1", "d2", "d2", "d3")
    small.put("silver/readings", D, [usable(n, device_id=device_id) for n, device_id in enumerate(devices)])
    small.put("registry/devices", None, [device("d1"), device("d2", "inferred")])
    outcome = devices_are_declared(inspect(), D)
    assert not outcome.passed and outcome.metadata["found"] == 2
    assert "| d2 | 2 | inferred |" in outcome.metadata["offending"].value
    assert "| d3 | 1 | unknown |" in outcome.metadata["offending"].value


def test_declared_metrics_pass(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable()])
    small.put("registry/metrics", None, [metric("temperature")])
    assert metrics_are_declared(inspect(), D).passed


def test_a_metric_without_declaration_is_listed_with_what_came(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable(0), usable(1, metric="co2", value=400.0), usable(2, metric="co2", value=800.0)])
    small.put("registry/metrics", None, [metric("temperature")])
    outcome = metrics_are_declared(inspect(), D)
    assert not outcome.passed and "| sensor_reading | co2 | 2 | 400.0 | 800.0 |" in outcome.metadata["offending"].value
    assert outcome.description.startswith("1 metric(s) without declared bounds")


def test_a_date_without_readings_passes(inspect: Inspect) -> None:
    assert devices_are_declared(inspect(), D).passed and metrics_are_declared(inspect(), D).passed


def test_the_bound_may_be_more_than_one_device(small: SmallLake, inspect: Inspect) -> None:
    small.put("silver/readings", D, [usable(0), usable(1, device_id="d2")])
    lenient = inspect(devices_are_declared={"warn": 3, "fail": 4})
    assert devices_are_declared(lenient, D).passed and devices_are_declared(lenient, D).figure == 2
    assert not devices_are_declared(inspect(devices_are_declared={"fail": 2}), D).passed
