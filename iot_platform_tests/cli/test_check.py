"""``iot check`` for CI: its exit code, its JUnit file, one clear line; and the sample workflow that uses it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
import yaml
from typer.core import TyperGroup

from iot_platform.automation.run_events import Checked
from iot_platform.cli.app import app
from iot_platform.cli.check import shown
from iot_platform.cli.materialize import NO_DATA
from iot_platform.lake import Lake
from iot_platform.settings import PROJECT_ROOT, Settings
from iot_platform_tests.assets.small_lake import DAY, D, SmallLake
from iot_platform_tests.checks.rows import usable
from iot_platform_tests.cli.conftest import Iot

WORKFLOW = PROJECT_ROOT / "docs" / "examples" / "checks-workflow.yml"
RANGE = ("--from", D.isoformat(), "--to", D.isoformat())


@pytest.fixture
def small(settings: Settings, dbt_manifest: Path, monkeypatch: pytest.MonkeyPatch) -> SmallLake:
    monkeypatch.setattr("iot_platform.definitions.dbt_manifest", lambda _settings: dbt_manifest)
    small = SmallLake(Lake(settings))
    small.day(D, readings=24)
    small.put("silver/readings", D, [usable(n) for n in range(24)])
    return small


def test_good_data_ends_with_0_and_a_file_that_says_so(iot: Iot, small: SmallLake, tmp_path: Path) -> None:
    ran = iot("check", *RANGE, "--select", "bronze", "--junit", str(tmp_path / "checks.xml"))
    assert ran.code == 0, ran.err
    assert "late_rate" in ran.out and "bronze/readings" not in ran.err
    root = ElementTree.parse(tmp_path / "checks.xml").getroot()
    assert root.get("failures") == "0" and int(root.get("tests", 0)) >= 9


def test_warnings_fail_when_asked_to(iot: Iot, small: SmallLake) -> None:
    lenient = iot("check", *RANGE, "--select", "devices_are_declared")
    assert lenient.code == 0 and "warning: devices_are_declared of silver/readings 2026-03-10: 1 device(s)" in lenient.err
    strict = iot("check", *RANGE, "--select", "devices_are_declared", "--fail-on", "warn")
    assert strict.code == 1 and "1 check(s) failed: devices_are_declared of silver/readings 2026-03-10" in strict.err


def test_a_failed_check_ends_with_1_one_line_and_the_whole_truth_in_json_and_junit(
    iot: Iot, small: SmallLake, tmp_path: Path
) -> None:
    thresholds = tmp_path / "own.yaml"
    thresholds.write_text("late_rate: {fail: 0}")
    ran = iot(
        "check", *RANGE, "--select", "late_rate", "--json", "--junit", str(tmp_path / "checks.xml"),
        IOT_THRESHOLDS_FILE=str(thresholds),
    )  # fmt: skip
    assert ran.code == 1 and "Traceback" not in ran.err
    assert "1 check(s) failed: late_rate of bronze/readings 2026-03-10: 0.00% of 24 rows came late" in ran.err
    assert (ran.json["failed"], ran.json["passed"], ran.json["errors"]) == (1, 0, [])
    (one,) = ran.json["checks"]
    assert one["figure"] == 0.0 and one["unit"] == "share" and one["severity"] == "ERROR" and not one["passed"]
    failure = ElementTree.parse(tmp_path / "checks.xml").getroot().find(".//failure")
    assert failure is not None and (failure.get("message") or "").startswith("0.00% of 24 rows")


def test_where_there_is_no_data_it_says_so(iot: Iot, small: SmallLake) -> None:
    empty = ("--from", (D - DAY).isoformat(), "--to", (D - DAY).isoformat(), "--select", "late_rate")
    ran = iot("check", *empty)
    assert ran.code == 0 and NO_DATA in ran.out
    assert iot("check", *empty, "--json").json["has_data"] is False
    there = iot("check", *RANGE, "--select", "late_rate")
    assert NO_DATA not in there.out
    assert iot("check", *RANGE, "--select", "late_rate", "--json").json["has_data"] is True


def test_a_blocking_failure_is_told_once(iot: Iot, small: SmallLake) -> None:
    small.put("silver/readings", D, [usable(0, device_id=None)])
    ran = iot("check", *RANGE, "--select", "silver/readings/contract", "--json")
    assert ran.code == 1 and "1 check(s) failed: contract of silver/readings 2026-03-10" in ran.err
    assert ran.json["errors"] == []


def test_a_step_that_broke_is_told_beside_a_check_that_failed(iot: Iot, small: SmallLake) -> None:
    small.put("silver/readings", D + DAY, [usable(0, D + DAY), usable(0, D + DAY)])
    (torn,) = small.lake.snapshot("silver/readings").files([D])
    Path(str(torn)).write_bytes(b"torn")
    both = ("--from", D.isoformat(), "--to", (D + DAY).isoformat())
    ran = iot("check", *both, "--select", "silver/readings/keys_are_unique")
    assert ran.code == 1 and "2 check(s) failed: keys_are_unique of silver/readings 2026-03-11" in ran.err
    assert "not checked: 2026-03-10" in " ".join(ran.err.split())


def test_checks_are_shown_by_name_and_those_of_the_marts_as_one() -> None:
    checks = [
        Checked("staging/a", "unique_key_a", D, True, "ERROR", ""),
        Checked("marts/b", "within_b", D, True, "ERROR", ""),
        Checked("bronze/readings", "late_rate", D, True, "WARN", "no rows", is_judged=False),
        Checked("bronze/readings", "volume", D, False, "WARN", "10 times fewer"),
    ]
    found = {row[0]: row[1:] for row in zip(*(column._cells for column in shown(checks).columns), strict=True)}
    assert {name: row[:4] for name, row in found.items()} == {
        "dbt tests": ("2", "0", "0", "0"), "late_rate": ("0", "1", "0", "0"), "volume": ("0", "0", "1", "0"),
    }  # fmt: skip
    assert "10 times fewer" in str(found["volume"][4])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--select", "lateness"), "no check is called 'lateness'"),
        (("--junit", "nowhere/checks.xml"), "there is no folder"),
        (("--select", "marts"), "there are no marts to be tested yet"),
        (("--from", "1999-01-01"), "beyond the partitions"),
    ],
)
def test_wrong_use_ends_with_2_and_one_line(iot: Iot, small: SmallLake, arguments: tuple[str, ...], says: str) -> None:
    ran = iot("check", *(RANGE if "--from" not in arguments else ()), *arguments)
    assert ran.code == 2 and says in ran.err and "Traceback" not in ran.err
    assert len([line for line in ran.err.splitlines() if line.strip()]) == 1


def steps() -> list[dict[str, Any]]:
    content = yaml.safe_load(WORKFLOW.read_text())
    (job,) = content["jobs"].values()
    return job["steps"]


def commands() -> list[list[str]]:
    return [shlex.split(line) for step in steps() for line in step.get("run", "").splitlines() if line.strip()]


def test_the_workflow_names_targets_that_make_has_and_no_address() -> None:
    makefile = (PROJECT_ROOT / "Makefile").read_text()
    targets = [command[1] for command in commands() if command[0] == "make"]
    assert targets and all(f"\n{target}:" in makefile for target in targets)
    assert "://" not in WORKFLOW.read_text()


def test_the_workflow_s_commands_are_ones_that_the_command_line_takes() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    parsed = [
        group.commands[command[1]].make_context(command[1], command[2:])  # parses and validates, runs nothing
        for command in commands()
        if command[0].endswith("iot")
    ]
    (check,) = [context.params for context in parsed if context.info_name == "check"]
    assert (check["first"], check["last"], check["fail_on"]) == ("yesterday", "yesterday", "error")


def test_the_workflow_fails_when_nobody_said_where_the_lake_is() -> None:
    (first, *_) = [command for command in commands() if command[0] == "test"]
    assert first == ["test", "-n", "$IOT_LAKE"] and commands().index(first) == 0


def test_the_workflow_keeps_the_file_that_the_check_writes_also_when_it_failed() -> None:
    (check,) = [command for command in commands() if command[0].endswith("iot")]
    written = check[check.index("--junit") + 1]
    (upload,) = [step for step in steps() if "upload-artifact" in step.get("uses", "")]
    assert upload["with"]["path"] == written and upload["if"] == "always()"
