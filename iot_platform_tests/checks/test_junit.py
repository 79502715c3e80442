"""The JUnit file says what happened to every check, and can be read whatever a description holds."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from iot_platform.automation.run_events import Checked, RunResult, StepEnd
from iot_platform.checks.junit import junit_xml

DAY = date(2026, 3, 10)
BEGAN = datetime(2026, 3, 11, 6, tzinfo=UTC)


def result(*checks: Checked, steps: tuple[StepEnd, ...] = ()) -> RunResult:
    return RunResult("run", seconds=2.5, log=Path("run.log"), checks=list(checks), steps=list(steps))


def checked(
    name: str, *, passed: bool = True, severity: str = "ERROR", says: str = "", day: date | None = DAY, judged: bool = True
) -> Checked:
    return Checked("silver/readings", name, day, passed, severity, says, 0.3, "share", judged)


def read(document: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(document)


def test_every_check_and_date_is_a_case_of_its_asset_s_suite() -> None:
    root = read(junit_xml(result(checked("a"), checked("b", day=None)), began=BEGAN))
    (suite,) = root
    assert (root.tag, suite.tag, suite.get("name")) == ("testsuites", "testsuite", "silver/readings")
    assert [(case.get("classname"), case.get("name")) for case in suite] == [
        ("silver.readings", "a 2026-03-10"), ("silver.readings", "b"),
    ]  # fmt: skip
    assert suite.get("timestamp") == "2026-03-11T06:00:00" and root.get("time") == "2.500"


def test_counts_are_those_of_what_is_in_it() -> None:
    checks = [
        checked("good"),
        checked("bad", passed=False, says="3 rows"),
        checked("early", says="too early to tell", judged=False),
        checked("odd", passed=False, severity="WARN", says="7 rows"),
    ]
    root = read(junit_xml(result(*checks, steps=(StepEnd("step", 0, "disk full"),))))
    names = ("tests", "failures", "errors", "skipped")
    assert [root.get(name) for name in names] == ["5", "1", "1", "1"]
    suite, run = root
    assert [suite.get(name) for name in names] == ["4", "1", "0", "1"]
    failure = suite.find("testcase/failure")
    assert failure is not None and failure.get("message") == "3 rows" and failure.get("type") == "ERROR"
    assert failure.text == "silver/readings bad 2026-03-10: 3 rows (figure 0.3 share)"
    warned = suite.find("testcase/system-out")
    assert warned is not None and warned.text == "warning: 7 rows (figure 0.3 share)"
    error = run.find("testcase/error")
    assert error is not None and error.get("message") == "disk full"


def test_a_blocking_check_that_failed_is_one_failure_and_not_an_error_of_its_step_too() -> None:
    blocked = StepEnd("check_silver_readings", 0, "1 blocking asset check failed", is_told=True)
    root = read(junit_xml(result(checked("contract", passed=False, says="x"), steps=(blocked,))))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("1", "1", "0")


def test_warnings_are_failures_when_they_shall_be() -> None:
    root = read(junit_xml(result(checked("odd", passed=False, severity="WARN", says="x")), warnings_fail=True))
    assert root.get("failures") == "1" and root.find(".//system-out") is None


@given(st.text())
def test_any_description_can_be_read(says: str) -> None:
    root = read(junit_xml(result(checked("bad", passed=False, says=says))))
    assert root.get("failures") == "1"
