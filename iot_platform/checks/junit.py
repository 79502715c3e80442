"""A run's check results as JUnit XML, which CI systems show: a suite an asset, a case a check and date."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from iot_platform.automation.run_events import Checked, RunResult

NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(result: RunResult, *, warnings_fail: bool = False, began: datetime | None = None) -> bytes:
    """The document, UTF-8. A warning is a failure if ``warnings_fail``, else a passed case that says so; what was not
    judged is skipped; a step that broke by something else than its checks is an error of a suite ``run``."""
    root = ElementTree.Element("testsuites", name="iot check")
    by_asset: dict[str, list[Checked]] = {}
    for check in result.checks:
        by_asset.setdefault(check.asset, []).append(check)
    stamp = (began or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    for asset, checks in sorted(by_asset.items()):
        suite = ElementTree.SubElement(root, "testsuite", name=_clean(asset), timestamp=stamp)
        for check in checks:
            _case(suite, check, warnings_fail=warnings_fail)
    if result.untold_errors:
        suite = ElementTree.SubElement(root, "testsuite", name="run", timestamp=stamp)
        for step in result.untold_errors:
            case = ElementTree.SubElement(suite, "testcase", classname="run", name=_clean(step.step), time="0.000")
            error = ElementTree.SubElement(case, "error", type="StepFailure", message=_clean(step.error))
            error.text = _clean(f"{step.error}\nlog: {result.log}")
    for suite in root:
        _count(suite, [suite])
        suite.set("time", "0.000")
    _count(root, list(root))
    root.set("time", f"{result.seconds:.3f}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _case(suite: ElementTree.Element, check: Checked, *, warnings_fail: bool) -> None:
    name = f"{check.check} {check.day}" if check.day else check.check
    classname = check.asset.replace("/", ".")  # what consumers part by dots
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(classname), name=_clean(name), time="0.000")
    text = _clean(check.description or "failed")
    if not check.passed and (warnings_fail or check.severity == "ERROR"):
        failure = ElementTree.SubElement(case, "failure", type=check.severity, message=text)
        failure.text = _clean(f"{check.asset} {name}: {text}{_figure(check)}")
    elif not check.passed:
        ElementTree.SubElement(case, "system-out").text = f"warning: {text}{_figure(check)}"
    elif not check.is_judged:
        ElementTree.SubElement(case, "skipped", message=text)


def _figure(check: Checked) -> str:
    return "" if check.figure is None else f" (figure {check.figure:g} {check.unit})"


def _count(element: ElementTree.Element, suites: Sequence[ElementTree.Element]) -> None:
    element.set("tests", str(sum(len(suite.findall("testcase")) for suite in suites)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(len(suite.findall(f"testcase/{tag}")) for suite in suites)))


def _clean(text: str) -> str:
    """The text without what XML cannot hold, not even escaped."""
    return NOT_IN_XML.sub("�", text)
