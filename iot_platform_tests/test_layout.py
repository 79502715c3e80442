"""How the package hangs together: imports go one way, no module is a bucket, and importing starts and reads nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from iot_platform.settings import PROJECT_ROOT

PACKAGE = PROJECT_ROOT / "iot_platform"
BUCKETS = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "shared", "base", "stuff", "tools"}
# Who may be imported by whom: a part imports parts of its own level and of the levels before it. What everybody may use
# (settings, errors, the local services, topics) stands first.
LEVELS: list[set[str]] = [
    {"errors"},
    {"settings"},
    {"failpoints"},
    {"contracts"},
    {"local", "topics"},
    {"transforms"},
    {"lake"},
    {"engines", "marts", "simulator"},
    {"ingest", "remote"},
    {"assets", "checks", "automation", "reports", "alerts", "erase"},
    {"definitions", "docs_site", "status", "cli", "demo"},
]
LEVEL = {part: number for number, parts in enumerate(LEVELS) for part in parts}


def modules() -> Iterator[Path]:
    yield from sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path, *, only_at_import: bool = False) -> Iterator[tuple[int, str]]:
    """Line and name of every import in a file; those under ``if TYPE_CHECKING`` are no dependency."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    if only_at_import:
        skipped |= {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
        }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: write the import out in full"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_every_part_has_its_place() -> None:
    parts = {part_of(path) for path in modules()} - {"__init__"}
    assert parts <= set(LEVEL), "a new part: say in LEVELS what may import it"


def test_imports_go_one_way() -> None:
    against: list[str] = []
    for path in modules():
        own = LEVEL.get(part_of(path), len(LEVELS))
        for line, name in imports(path):
            pieces = name.split(".")
            if pieces[0] == "iot_platform" and len(pieces) > 1 and LEVEL.get(pieces[1], -1) > own:
                against.append(f"{path.relative_to(PROJECT_ROOT)}:{line} imports {name}")
    # Running assets builds the definitions; they are asked for when a run begins, not when the module is imported.
    allowed = {"iot_platform/automation/run.py", "iot_platform/automation/check_run.py"}
    assert [line for line in against if line.split(":")[0] not in allowed] == []


def test_no_module_is_a_bucket() -> None:
    assert [path for path in modules() if path.stem.strip("_") in BUCKETS or path.parent.name in BUCKETS] == []


def test_only_the_settings_read_the_environment() -> None:
    readers: list[str] = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_read = isinstance(node, ast.Call) or (isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load))
            name = ast.unparse(node) if is_read else ""
            if name.startswith(("os.getenv", "os.environ[", "os.environ.get(")):
                readers.append(f"{path.relative_to(PACKAGE)}: {name}")
    assert [reader for reader in readers if not reader.startswith("settings.py")] == []


def test_every_module_says_what_belongs_in_it() -> None:
    assert [path for path in modules() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


@pytest.fixture(scope="module")
def importable() -> list[str]:
    names = [".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts) for path in modules()]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_importing_starts_no_process_connects_nowhere_and_reads_no_setting(importable: list[str], tmp_path: Path) -> None:
    program = """
import importlib, sys
seen = []
watched = {"subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind"}
# Libraries ask the machine what it is: the kind of a program (platform), whether it has IPv6 (urllib3).
harmless = ("('file', ['file', '-b'", "('::1', 0)", "ldconfig", "uname")
def watch(event, arguments):
    said = str(arguments)[:300]
    if event in watched and not any(text in said for text in harmless):
        seen.append((event, said))
sys.addaudithook(watch)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(seen)
"""
    found = subprocess.run(
        [sys.executable, "-c", program, *importable], capture_output=True, text=True, check=True, timeout=180,
        cwd=tmp_path, env={"IOT_HOME": "/nowhere/iot", "IOT_ENGINE": "no such engine", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert found.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
