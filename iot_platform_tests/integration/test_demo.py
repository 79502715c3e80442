"""`iot demo` as a newcomer runs it: the whole way once, the same again without work, and nothing left running."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from iot_platform.local.kafka import running_service
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform_tests.erase.erasable import traces

pytestmark = pytest.mark.integration

COMMAND = Path(sys.executable).with_name("iot")
LONGEST_SECONDS = 600  # the end of a command that hangs; a demo takes a minute, four where others run beside it


@dataclass(frozen=True)
class Home:
    """The state of the demos of this module."""

    settings: Settings

    def iot(self, *words: str) -> str:
        """What the command says on stdout; it must succeed."""
        environment = dict(os.environ) | {"IOT_HOME": str(self.settings.home)}
        done = subprocess.run(
            [COMMAND, *words], env=environment, capture_output=True, text=True, check=False, timeout=LONGEST_SECONDS
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr
        return done.stdout + (done.stderr if words[0] == "demo" else "")

    def status(self) -> dict[str, Any]:
        return json.loads(self.iot("status", "--json"))

    def is_quiet(self) -> bool:
        """Whether nothing runs with this home in its environment; Spark's Java may take a moment to notice the end."""
        return running_service(self.settings) is None and wait_until(lambda: not self.processes(), seconds=20)

    def processes(self) -> list[str]:
        """The command lines of all that runs with this home in its environment."""
        return list(_running_with(str(self.settings.home)))


def _running_with(home: str) -> Iterator[str]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("IOT_HOME") == home and process.status() != psutil.STATUS_ZOMBIE:
                yield " ".join(process.cmdline())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    # A folder that is not there yet, with a space in its name: what a fresh clone may look like.
    folder = tmp_path_factory.mktemp("demo") / "a home"
    return Home(Settings(home=folder, _env_file=None))  # pyright: ignore[reportCallIssue]


@pytest.fixture(scope="module")
def first(home: Home) -> str:
    """What the first demo printed."""
    return home.iot("demo", "--days", "1", "--devices", "3")


def cells(printed: str, title: str) -> list[list[str]]:
    """The rows of one printed table."""
    after = printed.split(title, 1)[1].splitlines()[1:]
    rows: list[list[str]] = []
    for line in after:
        if not line.strip():
            break
        if line.startswith("│"):
            rows.append([cell.strip() for cell in line.strip("│").split("│")])
        elif rows and line.startswith("└"):
            break
    return rows


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_demo_shows_what_the_platform_made(home: Home, first: str) -> None:
    p95 = cells(first, "p95 of event durations")
    assert [row[1] for row in p95] == ["temperature", "pressure"]  # the third device, of another type, is silent
    assert all(number(row[2]) >= 500 and number(row[3]) > 0 and number(row[6]) > 0 for row in p95)
    health = cells(first, "Health: the ten least healthy devices")
    silent = [row for row in health if row[5] == "0"]
    assert len(silent) == 4, "one silent device a contract, each with its rows"
    assert all(number(row[2]) == number(row[6]) >= 287 and row[4] == "0" for row in silent)
    ledger = cells(first, "Ledger: bronze = silver + rejected + pending")
    assert ledger and all(row[-1] == "yes" and row[-2] == "0" for row in ledger)
    assert re.search(r"Offsets: [\d,]+ consumed = .*: balanced", first)
    checks = {row[0]: row for row in cells(first, "Checks") if row[0]}  # a long warning takes further lines
    assert {"contract", "conservation", "dbt tests"} < checks.keys()
    for name in ("contract", "conservation", "dbt tests"):  # passed; not judged, warned, failed
        assert number(checks[name][1]) > 0 and checks[name][2:5] == ["0", "0", "0"]
    assert len(cells(first, "Slowest steps")) >= 5
    assert "Where to look next:" in first and str(home.settings.home) in first.replace("\n", "")
    assert home.is_quiet(), home.processes()


def test_status_says_the_same_figures(home: Home, first: str) -> None:
    said = home.status()
    (ledger,) = [row for row in said["ledger"] if row["bronze"] == max(one["bronze"] for one in said["ledger"])]
    assert all(row["balanced"] and row["pending"] == 0 for row in said["ledger"])
    shown = next(row for row in cells(first, "Ledger:") if row[0] == ledger["event_date"])
    reasons = ("duplicate", "null_value", "not_finite", "out_of_range")
    rejected = [ledger["rejected"].get(reason, 0) for reason in reasons]
    assert [number(cell) for cell in shown[1:7]] == [ledger["bronze"], ledger["silver"], *rejected]
    assert all(rejected[n] > 0 for n in (0, 1, 3)), "the demo injects each of these"
    offsets = said["offsets"]
    assert offsets["balanced"] and offsets["quarantined"] > 0
    assert offsets["consumed"] == offsets["bronze_messages"] + offsets["quarantined"]
    assert f"Offsets: {offsets['consumed']:,} consumed = {offsets['bronze_messages']:,} in Bronze" in first
    for topic in said["topics"].values():
        assert topic["lag"] is None and topic["end_offset"] is None and topic["committed_offset"] > 0
    empty = [name for name, table in said["tables"].items() if not table["rows"]]
    assert empty == ["ops/incidents", "ops/erasures"], "nothing went wrong, and nobody was erased"


def test_a_second_demo_sends_nothing_makes_nothing_and_leaves_all_as_it_was(home: Home, first: str) -> None:
    before = home.status()
    again = home.iot("demo", "--days", "1", "--devices", "3")
    assert re.search(r"Simulate 1 days of 3 devices a contract: 0 messages sent, [\d,]+ were sent before", again)
    assert "everything is up to date" in again and "Drain" not in again
    assert home.status() == before
    for title in ("p95 of event durations", "Health:", "Ledger:"):
        assert cells(again, title) == cells(first, title)
    assert home.is_quiet(), home.processes()


@pytest.mark.long
@pytest.mark.usefixtures("first")
def test_an_erased_device_is_in_no_file_of_the_lake_or_the_marts_and_the_ledger_says_so(home: Home) -> None:
    device, folder = "environment-002", home.settings.home
    before = home.status()
    assert traces(folder / "lake", device) and traces(folder / "marts", device)
    said = json.loads(home.iot("erase", "--device", device, "--yes", "--json"))
    assert said["clean"] and said["tables"]["bronze/readings"]["device_before"] > 100
    assert {name for name, table in said["tables"].items() if table["device_after"]} == set()
    assert traces(folder / "lake", device) == traces(folder / "marts", device) == []
    after = home.status()
    assert after["offsets"]["balanced"] and all(row["balanced"] and not row["pending"] for row in after["ledger"])
    assert after["offsets"]["consumed"] == before["offsets"]["consumed"] and after["offsets"]["erased"] > 100
    assert [row["bronze"] for row in after["ledger"]] == [row["bronze"] for row in before["ledger"]]
    known = json.loads(home.iot("query", f"select count(*) as n from devices where device_id = '{device}'", "--json"))
    assert known == [{"n": 0}]
    again = json.loads(home.iot("erase", "--device", device, "--yes", "--json"))
    assert again["already_erased"] and again["clean"] and home.status() == after
