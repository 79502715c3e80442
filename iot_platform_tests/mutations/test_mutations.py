"""The deliberate bugs still fit the source, and the check of them tells a caught one from one that survived."""

from __future__ import annotations

import pytest

from iot_platform.settings import PROJECT_ROOT
from iot_platform_tests.mutations.bugs import BUGS, Bug, Change
from iot_platform_tests.mutations.check import Moved, Verdict, applied, told


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_bug_still_fits_the_source(bug: Bug) -> None:
    texts = {change.path: (PROJECT_ROOT / change.path).read_text(encoding="utf-8") for change in bug.changes}
    for change in bug.changes:
        texts[change.path] = applied(texts[change.path], change)
    for path, text in texts.items():
        if path.endswith(".py"):
            compile(text, path, "exec")


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_tests_that_must_notice_are_there(bug: Bug) -> None:
    for test in bug.tests:
        path, _, name = test.partition("[")[0].partition("::")
        assert f"def {name}(" in (PROJECT_ROOT / path).read_text(encoding="utf-8")


def test_a_source_that_moved_is_told() -> None:
    with pytest.raises(Moved, match=r"a\.py: 0 times"):
        applied("nothing of it", Change("a.py", "old", "new"))
    with pytest.raises(Moved, match=r"a\.py: 2 times"):
        applied("old old", Change("a.py", "old", "new"))


SAID = """
FAILED t.py::one[case] - AssertionError
FAILED t.py::two - AssertionError
PASSED t.py::one[other]
"""


def test_a_bug_is_caught_when_all_tests_named_for_it_failed() -> None:
    bug = Bug("b", (), ("t.py::one", "t.py::two"))
    failed = told(SAID, "FAILED")
    assert Verdict(bug, failed, (), "").is_caught
    assert not Verdict(bug, failed[:1], (), "").is_caught
    assert not Verdict(bug, failed, told(SAID, "PASSED"), "").is_caught, "a case of it did not notice"
    assert not Verdict(Bug("b", (), ("t.py::on",)), failed, (), "").is_caught
