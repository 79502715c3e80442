"""A Dagster started for a look from outside: what it says when it cannot be used. That it can, the end-to-end tests show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from iot_platform.errors import ServiceError
from iot_platform.local import dagster_ui
from iot_platform.local.dagster_ui import ask, running_dagster
from iot_platform.local.process import wait_until
from iot_platform.settings import Settings
from iot_platform_tests.local.test_dev import processes_of


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[int, object]]]]:
    """A server that gives these answers, one a question, the last for ever; and its address."""
    answers: list[tuple[int, object]] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, content = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answering) as answering:
        Thread(target=answering.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{answering.server_port}", answers
        answering.shutdown()


def test_a_question_that_graphql_does_not_understand_is_told_as_it_says(
    server: tuple[str, list[tuple[int, object]]],
) -> None:
    address, answers = server
    answers[:] = [(200, {"data": {"version": "1"}}), (400, {"errors": [{"message": "no field `versoin`"}]})]
    assert ask(address, "{ version }", {}) == {"version": "1"}
    with pytest.raises(ServiceError, match="no field `versoin`"):
        ask(address, "{ versoin }", {})
    with pytest.raises(ServiceError, match=r"127.0.0.1:9 does not answer"):
        ask("http://127.0.0.1:9", "{ version }", {})


def test_a_graph_that_never_loads_is_told_with_the_logs_last_word(
    server: tuple[str, list[tuple[int, object]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, answers = server
    answers[:] = [(200, {"data": {"workspaceOrError": {"locationEntries": []}}})]
    log = tmp_path / "dagster.log"
    log.write_text("still loading\n")
    monkeypatch.setattr(dagster_ui, "UI_SECONDS", 0.1)
    with pytest.raises(ServiceError, match="does not load its code: still loading"):
        dagster_ui._wait_for_graph(address, log)


@pytest.mark.integration
def test_code_that_cannot_be_loaded_is_told_in_one_line_and_nothing_goes_on_running(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    code = settings.home / "broken.py"
    code.write_text("raise ValueError('the wrong way')\n")
    wrong = pytest.raises(ServiceError, match=r"cannot load broken.py: .*the wrong way")
    with wrong, running_dagster(settings, ("-f", str(code))):
        raise AssertionError("it was entered")
    assert wait_until(lambda: not processes_of(settings.home), 60), processes_of(settings.home)
