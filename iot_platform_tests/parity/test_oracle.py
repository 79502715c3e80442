"""Silver and the 5-minute windows of any input equal a plain computation in Python."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from iot_platform.engines.duckdb import DuckDBEngine
from iot_platform.settings import Settings
from iot_platform_tests.parity.cases import World, rows_of, worlds
from iot_platform_tests.parity.close import differences
from iot_platform_tests.parity.oracle import silver, verdicts, windows
from iot_platform_tests.transforms.rows import DAY, Row, make


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    made = DuckDBEngine(Settings(home=tmp_path_factory.mktemp("oracle-home"), _env_file=None))  # pyright: ignore[reportCallIssue]
    yield made
    made.close()


def _both_days(drawn: list[World]) -> tuple[list[Row], list[Row]]:
    readings: list[Row] = []
    limits: list[Row] = []
    for number, world in enumerate(drawn):
        more, _, bounds = rows_of(number, world)
        readings += more
        limits += bounds
    return readings, limits


@given(st.lists(worlds, min_size=1, max_size=8))
# No shrinking: a world is told by its knobs already, and each step to a smaller one costs a run.
@settings(
    max_examples=25, phases=[Phase.reuse, Phase.generate], deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_silver_rejected_and_windows_equal_the_plain_computation(engine: DuckDBEngine, drawn: list[World]) -> None:
    readings, limits = _both_days(drawn)
    today = [row for row in readings if row["event_date"] == DAY]
    usable = make(engine, "silver/readings", bronze_readings=readings, registry_metrics=limits)
    refused = make(engine, "silver/rejected_readings", bronze_readings=today, registry_metrics=limits)

    place = ("topic", "kafka_partition", "kafka_offset", "metric")
    judged = {tuple(row[name] for name in place): reason for row, reason in verdicts(today, limits)}
    assert {tuple(row[name] for name in place): row["reason"] for row in refused} == {k: r for k, r in judged.items() if r}

    expected = silver(readings, limits, DAY)
    assert {(row["event_id"], row["metric"]) for row in usable} == set(expected)
    scored = ["kafka_offset", "value", "recent_mean", "recent_std", "recent_count", "z_score", "is_anomaly"]
    for row in usable:
        plain = expected[row["event_id"], row["metric"]]
        assert not differences(plain, row, scored, scale=plain["scale"]), row

    aggregated = windows(usable)
    made = make(engine, "gold/sensor_windows", silver_readings=usable)
    assert {(row["device_id"], row["metric"], row["window_start"]) for row in made} == set(aggregated)
    for row in made:
        plain = aggregated[row["device_id"], row["metric"], row["window_start"]]
        figures = [name for name in plain if name != "scale"]
        assert not differences(plain, row, figures, scale=plain["scale"] * plain["readings"]), row
