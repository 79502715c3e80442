"""How long until the UI can be used: ``dagster dev`` of this project against one of an empty project, in turns.

``.venv/bin/python deploy/bench_ui.py [--repeats 3] [--json]``. Two moments are taken, on free loopback ports: the web server
answers, and the asset graph is there. Beside them, how long a process needs to load the definitions. Medians; ratio below 1
means that ours is faster. The dbt manifest is made before, as ``make setup``'s first use does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from iot_platform.local.dagster_ui import OURS, running_dagster
from iot_platform.marts.build import manifest
from iot_platform.settings import Settings

EMPTY = "import dagster as dg\n\ndefs = dg.Definitions()\n"
LOAD = """
import time
began = time.perf_counter()
import {module} as loaded
found = loaded.defs() if callable(loaded.defs) else loaded.defs
getattr(found, 'get_repository_def', lambda: None)()
print(time.perf_counter() - began)
"""
SERVER, GRAPH, LOADING = "ui_answers", "ui_shows_graph", "definitions_load"


def start(home: Path, code: tuple[str, ...]) -> dict[str, float]:
    """Seconds of one start of ``dagster dev``, with a history of its own."""
    settings = Settings(home=home, _env_file=None)  # pyright: ignore[reportCallIssue]
    with running_dagster(settings, code) as found:
        return {SERVER: found.seconds_to_server, GRAPH: found.seconds_to_graph}


def load(home: Path, module: str) -> float:
    """Seconds that a new process needs for the definitions, from ``import dagster`` on."""
    environment = os.environ | {"IOT_HOME": str(home), "PYTHONPATH": str(home)}
    program = [sys.executable, "-c", LOAD.format(module=module)]
    found = subprocess.run(program, env=environment, cwd=home, capture_output=True, text=True, check=True)
    return float(found.stdout.split()[-1])


def measure(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """One row for each moment: ours, theirs (the empty project's), and their ratio."""
    ours, theirs = folder / "ours", folder / "empty"
    theirs.mkdir()
    (theirs / "empty_project.py").write_text(EMPTY, encoding="utf-8")
    manifest(Settings(home=ours, _env_file=None))  # pyright: ignore[reportCallIssue]
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in (SERVER, GRAPH, LOADING)}
    for _ in range(repeats):
        for side, (home, code) in enumerate(((ours, OURS), (theirs, ("-f", str(theirs / "empty_project.py"))))):
            for name, found in start(home, code).items():
                seconds[name][side].append(found)
        seconds[LOADING][0].append(load(ours, "iot_platform.definitions"))
        seconds[LOADING][1].append(load(theirs, "empty_project"))
    return [
        {
            "scenario": "ui", "size": name, "peer": "empty-project", "ours": round(median(mine), 2),
            "theirs": round(median(other), 2), "unit": "s", "ratio": round(median(mine) / median(other), 2),
            "runs": [[round(value, 2) for value in side] for side in (mine, other)],
        }
        for name, (mine, other) in seconds.items()
    ]  # fmt: skip


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=3, help="starts of each (default 3)")
    parser.add_argument("--json", action="store_true", help="rows for programs")
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), chosen.repeats)
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        figures = f"ours {row['ours']:6.2f} s   empty project {row['theirs']:6.2f} s   ratio {row['ratio']:.2f}"
        print(f"{row['size']:18} {figures}")
    print(f"{chosen.repeats} starts of each in turns, {time.monotonic() - began:.0f} s, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
