"""The thresholds file: complete as shipped, laid over by the user's, and every mistake is one line with file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from iot_platform.checks.thresholds import SCOPES, Bounds, load_thresholds
from iot_platform.errors import InputError
from iot_platform.settings import SHIPPED_THRESHOLDS, Settings
from iot_platform_tests.conftest import MakeSettings


@pytest.fixture
def own(make_settings: MakeSettings, tmp_path: Path) -> tuple[Path, Settings]:
    path = tmp_path / "own.yaml"
    return path, make_settings(thresholds_file=path)


def test_the_shipped_file_has_every_check_and_nothing_else(settings: Settings) -> None:
    assert set(yaml.safe_load(SHIPPED_THRESHOLDS.read_text())) == set(SCOPES)
    found = load_thresholds(settings)
    assert found.keys() == SCOPES.keys()
    assert found["late_rate"].bounds == Bounds(0.1, 0.5) and found["volume"].weeks == 4


def test_a_file_of_ones_own_needs_only_what_differs(own: tuple[Path, Settings]) -> None:
    path, settings = own
    path.write_text("late_rate: {fail: 0.3, overrides: [{contract: device_event, site: hall, warn: 0.2}]}\n")
    found = load_thresholds(settings)
    late = found["late_rate"]
    assert late.bounds == Bounds(0.1, 0.3) and late.min_rows == 20
    assert late.of(contract="device_event", site="hall", metric="x") == Bounds(0.2, 0.3)
    assert late.of(contract="device_event", site="cellar", metric="x") == late.bounds
    shipped = load_thresholds(settings.model_copy(update={"thresholds_file": SHIPPED_THRESHOLDS}))
    assert found["null_rate"] == shipped["null_rate"]


def test_the_first_override_that_fits_counts(own: tuple[Path, Settings]) -> None:
    path, settings = own
    path.write_text("volume: {overrides: [{table: silver/readings, warn: 3}, {table: silver/readings, warn: 9}]}")
    assert load_thresholds(settings)["volume"].of(table="silver/readings").warn == 3


def test_an_empty_file_changes_nothing_and_null_switches_off(own: tuple[Path, Settings]) -> None:
    path, settings = own
    path.write_text("# nothing yet\n")
    assert load_thresholds(settings)["late_rate"].bounds == Bounds(0.1, 0.5)
    path.write_text("late_rate: {warn: null, fail: null}")
    bounds = load_thresholds(settings)["late_rate"].bounds
    assert not bounds.warns(1.0) and not bounds.fails(1.0)


def test_a_fail_below_the_warning_of_before_and_counts_above_1_are_no_mistakes(own: tuple[Path, Settings]) -> None:
    path, settings = own
    path.write_text("late_rate: {fail: 0}\nvolume: {warn: 5}\ndevices_are_declared: {warn: 3, fail: 9}\n")
    found = load_thresholds(settings)
    assert found["late_rate"].bounds == Bounds(0.1, 0) and found["volume"].bounds == Bounds(5, 10)
    assert found["devices_are_declared"].bounds == Bounds(3, 9)


def test_a_figure_that_reaches_the_bound_is_over_it() -> None:
    assert Bounds(0.1, 0.5).warns(0.1) and not Bounds(0.1, 0.5).fails(0.49) and Bounds(fail=0).fails(0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", ": must map checks to their thresholds. Correct the file"),
        ("late_rate: {warn: [}", ", line 1: not YAML: "),
        ("lateness: {warn: 1}", ": lateness: no such check; there are null_rate, "),
        ("late_rate: 0.1", ": late_rate: must map keys such as warn and fail to numbers. Correct"),
        ("late_rate: {wran: 0.1}", ": late_rate.wran: no such key; there are warn, fail, min_rows, overrides. Correct"),
        ("late_rate: {warn: much}", ": late_rate.warn: must be a number from 0 on, or null for never. Correct"),
        ("late_rate: {fail: -1}", ": late_rate.fail: must be a number from 0 on, or null for never. Correct"),
        ("late_rate: {fail: true}", ": late_rate.fail: must be a number"),
        ("late_rate: {fail: .inf}", ": late_rate.fail: must be a number"),
        ("late_rate: {min_rows: 1.5}", ": late_rate.min_rows: must be a whole number from 0 on. Correct"),
        ("volume: {weeks: 2}", ": volume.min_weeks: must not be above weeks (2). Correct"),
        ("late_rate: {overrides: {site: a}}", ": late_rate.overrides: must be a list. Correct"),
        ("late_rate: {overrides: [3]}", ": late_rate.overrides[0]: must name contract or metric or site, and warn or fail"),
        ("late_rate: {overrides: [{warn: 1}]}", ": late_rate.overrides[0]: must name contract or metric or site, and"),
        ("late_rate: {overrides: [{site: a}]}", ": late_rate.overrides[0]: must name contract or metric or site, and"),
        ("late_rate: {overrides: [{site: a, wran: 1}]}", ": late_rate.overrides[0].wran: no such key"),
        ("late_rate: {overrides: [{site: 5, warn: 1}]}", ": late_rate.overrides[0].site: must be a name. Correct"),
        ("late_rate: {overrides: [{contract: x, warn: 1}]}", ": late_rate.overrides[0].contract: 'x' is none of "),
        ("volume: {overrides: [{table: x, warn: 1}]}", ": volume.overrides[0].table: 'x' is none of bronze/rea"),
        ("volume: {overrides: [{table: gold/sensor_health, warn: 3}]}", ": volume.overrides[0].table: 'gold/sensor"),
        ("late_rate: {fail: 0.9}\nlate_rate: {warn: 0.2}", ": late_rate: stands twice, again in line 2. Correct"),
        ("late_rate: {warn: 0.1, fail: 0.9, warn: 0.2}", ": late_rate.warn: stands twice, again in line 1. Correct"),
        (
            "late_rate: {overrides: [{site: a, warn: 0.1}, {site: b, warn: 0.1, site: c}]}",
            ": late_rate.overrides[1].site: stands twice",
        ),
        ("late_rate: {warn: 5}", ": late_rate.warn: must be a share from 0 to 1, or null for never; 5 % is 0.05. Correct"),
        ("fleet_is_healthy: {overrides: [{site: a, fail: 20}]}", ": fleet_is_healthy.overrides[0].fail: must be a share"),
        ("late_rate: {warn: 0.4, fail: 0.3}", ": late_rate.warn: must not be above fail (0.3), or it never warns. Correct"),
        ("late_rate: {warn: 0.6}", ": late_rate.warn: must not be above fail (0.5)"),
        ("volume: {overrides: [{table: bronze/readings, warn: 12}]}", ": volume.overrides[0].warn: must not be above fail"),
        ("metrics_are_declared: {overrides: []}", ": metrics_are_declared.overrides: no such key; there are warn, fail."),
        ("quarantine_rate: {overrides: [{site: a, warn: 1}]}", ": quarantine_rate.overrides[0].site: no such key"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(own: tuple[Path, Settings], text: str, says: str) -> None:
    path, settings = own
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_thresholds(settings)
    assert str(caught.value).startswith(f"{path}{says}") and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_names_the_setting(own: tuple[Path, Settings]) -> None:
    with pytest.raises(InputError, match=r"own\.yaml: No such file.* Set IOT_THRESHOLDS_FILE"):
        load_thresholds(own[1])
