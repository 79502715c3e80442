"""Runs dbt on the project: builds, tests and publishes the marts, and prepares the manifest that Dagster reads.

dbt runs as a process of its own: it keeps global state, and the database file has one writer.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version as package_version
from pathlib import Path
from time import perf_counter

from iot_platform.errors import InputError, PlatformError
from iot_platform.local.process import locked
from iot_platform.marts.facts import Facts, NodeResult, gather, node_results
from iot_platform.marts.publish import build_file
from iot_platform.settings import PROJECT_ROOT, Settings

DBT_PROJECT = PROJECT_ROOT / "dbt_project"
FAILED = {"error", "fail", "runtime error"}


@dataclass(frozen=True)
class BuildResult:
    """What a build did: how each node ended (by dbt's unique id), what it left behind, wall time, and the file that readers
    open. ``error`` names what failed; nothing is published then.

    ``is_published`` is false without an error after a build of some models only, while a test outside it still fails.
    """

    nodes: Mapping[str, NodeResult]
    facts: Facts
    seconds: float
    published: Path
    is_published: bool
    error: PlatformError | None = None

    @property
    def is_failed_by_tests(self) -> bool:
        """Whether it failed by rows that tests found, and by nothing else."""
        failed = {name: node.status for name, node in self.nodes.items() if node.status in FAILED}
        return bool(failed) and all(name.startswith("test.") and status == "fail" for name, status in failed.items())


def build(
    settings: Settings,
    days: tuple[date, date] | None = None,
    full_refresh: bool = False,
    *,
    select: Sequence[str] = (),
    project: Path = DBT_PROJECT,
    wait_seconds: float = 600,
) -> BuildResult:
    """Bring the marts up to the lake, test them, and publish ``settings.marts``; waits for another build to end.

    Only dates (UTC, both ends included) whose input levels moved are made again; ``full_refresh`` makes all of them, or
    with ``days`` all of those. Raises ``PlatformError`` naming the model or test that failed; then nothing is published.
    """
    result = attempt(settings, days, full_refresh, select=select, project=project, wait_seconds=wait_seconds)
    if result.error:
        raise result.error
    return result


def attempt(
    settings: Settings,
    days: tuple[date, date] | None = None,
    full_refresh: bool = False,
    *,
    select: Sequence[str] = (),
    tests_only: bool = False,
    project: Path = DBT_PROJECT,
    wait_seconds: float = 600,
) -> BuildResult:
    """As ``build``, for who wants to know what became of all nodes when one failed: the failure stands in the result.

    ``tests_only``: what is built already is tested; nothing is made and nothing published.
    """
    began = perf_counter()
    arguments = ["test" if tests_only else "build", *(["--select", *select] if select else [])]
    if days:
        if days[0] > days[1]:
            raise InputError(f"the first date {days[0]} is after the last {days[1]}")
        narrowed = {"marts_dates": f"{days[0]}/{days[1]}", "marts_remake": full_refresh}
        settings = settings.model_copy(update=narrowed)
    elif full_refresh and not tests_only:
        arguments.append("--full-refresh")
    # Unit tests are of the code, not of the data: the test suite runs them.
    arguments += ["--exclude-resource-type", "exposure", "unit_test"]
    # Held all the way: run_results.json and the partial parse in the target folder are this build's, and so is the file.
    with locked(settings.marts.with_name("build.lock"), wait_seconds):
        results = target_folder(settings) / "run_results.json"
        results.unlink(missing_ok=True)
        before = _identity(settings.marts)
        finished = run_dbt(settings, arguments, project)
        invocation, nodes = node_results(results)
        is_published = _identity(settings.marts) != before
        facts = gather(build_file(settings), nodes, invocation)
    error = next((failure(name, node, settings) for name, node in nodes.items() if node.status in FAILED), None)
    if finished.returncode and not error:
        log = log_folder(settings) / "dbt.log"
        error = PlatformError(f"dbt {arguments[0]} failed: {last_error(finished.stdout)}", f"Its log is {log}")
    return BuildResult(nodes, facts, perf_counter() - began, settings.marts, is_published, error)


def manifest(settings: Settings, project: Path = DBT_PROJECT) -> Path:
    """The project's manifest, parsed (some seconds) only when a file of the project changed.

    A file of its own, whole or not there: who loads the asset graph neither waits for a build nor reads while dbt writes.
    """
    path = settings.marts.with_name(f"manifest-{_fingerprint(project)[:16]}.json")
    if path.exists():
        return path
    with locked(settings.marts.with_name("build.lock"), seconds=600):
        if path.exists():
            return path
        finished = run_dbt(settings, ["parse", "--no-partial-parse"], project)
        if finished.returncode:
            raise PlatformError(
                f"the dbt project cannot be read: {last_error(finished.stdout)}", f"Correct it in {project}"
            )
        for older in path.parent.glob("manifest-*.json"):
            older.unlink()
        part = path.with_name(f".{path.name}.part")
        part.write_bytes((target_folder(settings) / "manifest.json").read_bytes())
        part.replace(path)
    return path


def target_folder(settings: Settings) -> Path:
    """Where dbt puts what it compiles: with the state, so that two homes never share it."""
    return settings.marts.with_name("target")


def log_folder(settings: Settings) -> Path:
    return settings.logs / "dbt"


def run_dbt(settings: Settings, arguments: Sequence[str], project: Path = DBT_PROJECT) -> subprocess.CompletedProcess[str]:
    """Run dbt with these settings; its standard output is one JSON event a line, errors only."""
    command = [sys.executable, "-m", "dbt.cli.main", "--quiet", "--log-format", "json", "--no-use-colors"]
    command += ["--log-path", str(log_folder(settings)), *arguments, "--project-dir", str(project)]
    command += ["--profiles-dir", str(project), "--target-path", str(target_folder(settings))]
    return subprocess.run(
        command, env=settings.environment(), cwd=project, capture_output=True, text=True, check=False
    )


def failure(unique_id: str, node: NodeResult, settings: Settings) -> PlatformError:
    """The error that names the node."""
    kind, _, name = unique_id.split(".")[:3]
    what = {"operation": "the step", "unit_test": "the unit test"}.get(kind, f"the {kind}")
    message = node.message
    if message.startswith("Got "):  # "Got 3 results, configured to fail if != 0"
        message = f"{node.failures} rows break it"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    # dbt puts a heading ("Runtime Error in model …") above what happened.
    detail = lines[1] if len(lines) > 1 and " Error" in lines[0] else (lines[0] if lines else node.status)
    return PlatformError(
        f"marts: {what} {name} failed: {detail}",
        f"The marts published before stay. Details are in {log_folder(settings)}/dbt.log",
    )


def _identity(published: Path) -> tuple[int, int] | None:
    """Tells one published file from the next, which may get the same inode."""
    try:
        found = published.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def last_error(output: str) -> str:
    """The last error event's message, on one line."""
    message = "it ended without a message"
    for line in output.splitlines():
        try:
            info = json.loads(line)["info"]
        except (ValueError, KeyError, TypeError):
            continue
        if info.get("level") == "error" and info.get("msg", "").strip():
            message = info["msg"]
    return " ".join(message.split())[:400]


def _fingerprint(project: Path) -> str:
    digest = hashlib.sha256(f"{package_version('dbt-core')} {package_version('dbt-duckdb')} {project}".encode())
    folders = ("models", "macros", "tests")
    files = [path for folder in folders for path in (project / folder).rglob("*") if path.suffix in {".sql", ".yml"}]
    for path in sorted([*files, *project.glob("*.yml")]):
        digest.update(str(path.relative_to(project)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
