"""Dagster with web server and daemon, as ``dagster dev`` runs it, owned by the caller; and its GraphQL, as the UI uses it.

For what looks at a running Dagster from outside: the end-to-end tests, the screenshot tour, the measurement of its start.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iot_platform.errors import ServiceError
from iot_platform.local.dagster_home import prepare_dagster_home
from iot_platform.local.dev import DAGSTER_PATIENCE_SECONDS, UI_SECONDS, told, wait_for_ui
from iot_platform.local.owned import OwnedProcess, owned
from iot_platform.local.process import LOOPBACK, free_ports, make_folder, wait_until
from iot_platform.settings import Settings

OURS = ("-m", "iot_platform.definitions")
ANSWER_SECONDS = 60
LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {
    __typename ... on PythonError { message errorChain { error { message } } } } } } } }
"""


@dataclass(frozen=True)
class DagsterUI:
    """A running ``dagster dev``: ``address`` without a slash at its end, ``log`` with all that it prints."""

    address: str
    process: OwnedProcess
    log: Path
    seconds_to_server: float
    seconds_to_graph: float

    def ask(self, query: str, **variables: Any) -> Any:
        """The data that GraphQL answers; ``ServiceError`` with its first error, or when nobody answers."""
        return ask(self.address, query, variables)


def ask(address: str, query: str, variables: Mapping[str, Any]) -> Any:
    """One question to Dagster's GraphQL."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:  # GraphQL says there what it did not understand
        found = json.loads(error.read() or b"{}")
    except OSError as error:
        raise ServiceError(f"Dagster at {address} does not answer: {error}", "See its log") from None
    if errors := found.get("errors"):
        raise ServiceError(f"Dagster's GraphQL: {errors[0]['message']}", "See the question")
    return found["data"]


@contextmanager
def running_dagster(settings: Settings, code: Sequence[str] = OURS) -> Iterator[DagsterUI]:
    """``dagster dev`` on a free loopback port, for the time of the block; it is entered once the asset graph is loaded.

    Everything it needs lies in ``settings.home``, from which it is started: at a clone's root it would be given the clone's
    ``.env``. Raises ``ServiceError`` when it does not start, or when its code does not load.
    """
    home = prepare_dagster_home(settings)
    make_folder(settings.home)
    log = settings.logs / "dagster.log"
    (port,) = free_ports(1)
    command = [Path(sys.executable).with_name("dagster"), "dev", *code, "--host", LOOPBACK, "--port", str(port)]
    began = time.monotonic()
    with owned(
        command,
        log,
        cwd=settings.home,
        env=settings.environment() | {"DAGSTER_HOME": str(home)},
        ending=signal.SIGINT,
        patience_seconds=DAGSTER_PATIENCE_SECONDS,
    ) as process:
        address = f"http://{LOOPBACK}:{port}"
        wait_for_ui(port, process, log)
        to_server = time.monotonic() - began
        _wait_for_graph(address, log)
        yield DagsterUI(address, process, log, to_server, time.monotonic() - began)


def _wait_for_graph(address: str, log: Path) -> None:
    def is_loaded() -> bool:
        entries = ask(address, LOCATIONS, {})["workspaceOrError"]["locationEntries"]
        for entry in entries:
            found = entry["locationOrLoadError"] or {}
            if found.get("__typename") == "PythonError":
                # The innermost: around it Dagster says what it was doing.
                messages = [found["message"], *(link["error"]["message"] for link in found["errorChain"])]
                raise ServiceError(f"Dagster cannot load {entry['name']}: {messages[-1].strip()}", f"See {log}")
        return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)

    if not wait_until(is_loaded, UI_SECONDS):
        raise ServiceError(f"Dagster does not load its code: {told(log)}", f"See {log}")
