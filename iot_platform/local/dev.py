"""``make dev``: a broker, a live simulator, continuous ingestion and Dagster's UI with its sensors; all end together.

``python -m iot_platform.local.dev --help`` shows what can be chosen. Ctrl-C ends everything, and so does the end of this
process by any other means: each part is owned by it.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

from iot_platform.errors import PlatformError, ServiceError
from iot_platform.local.dagster_home import prepare_dagster_home
from iot_platform.local.kafka import running_kafka
from iot_platform.local.kafka_node import last_meaningful
from iot_platform.local.owned import OwnedProcess, owned
from iot_platform.local.process import LOOPBACK, free_ports, is_port_free, wait_until
from iot_platform.settings import PROJECT_ROOT, Settings, load_settings
from iot_platform.topics import create_topics

USUAL_PORT = 3000
UI_SECONDS = 300
# After a Ctrl-C Dagster lets its runs end; its code servers would linger for up to 45 s more.
DAGSTER_PATIENCE_SECONDS = 15.0


def parse(arguments: list[str]) -> argparse.Namespace:
    """What was chosen on the command line."""
    parser = argparse.ArgumentParser(prog="python -m iot_platform.local.dev", description="Broker, simulator, Dagster.")
    parser.add_argument("--port", type=int, default=0, help=f"the UI's port; default {USUAL_PORT}, or a free one")
    parser.add_argument("--rate", type=float, default=20, help="messages a second of the simulator; 0: no simulator")
    parser.add_argument("--drain", action="store_true", help="no continuous ingest: Dagster's sensor asks for drains")
    return parser.parse_args(arguments)


def say(line: str) -> None:
    """One line for whoever looks; nobody may, when the terminal is gone already."""
    with suppress(OSError):
        print(line, flush=True)


def develop(settings: Settings, port: int, rate: float, *, drain: bool = False) -> NoReturn:
    """Run all of it until Ctrl-C, or until Dagster ends, which is a ``ServiceError``."""
    port = port or (USUAL_PORT if is_port_free(USUAL_PORT) else free_ports(1)[0])
    if not is_port_free(port):
        raise ServiceError(f"port {port} is taken by another program", "Choose another by --port")
    home = prepare_dagster_home(settings)
    program = Path(sys.executable).parent
    environment = os.environ | {"IOT_HOME": str(settings.home), "DAGSTER_HOME": str(home)}
    logs = settings.logs / "dev"
    with ExitStack() as stack:
        broker = stack.enter_context(running_kafka(settings))
        create_topics(settings)
        say(f"Kafka          {broker.bootstrap}")
        dagster = stack.enter_context(
            owned(
                [program / "dagster", "dev", "--host", LOOPBACK, "--port", str(port)],
                logs / "dagster.log",
                cwd=PROJECT_ROOT,
                env=environment,
                ending=signal.SIGINT,
                patience_seconds=DAGSTER_PATIENCE_SECONDS,
            )
        )
        if not drain:
            ingest = [program / "iot", "ingest", "--continuous"]
            stack.enter_context(owned(ingest, logs / "ingest.log", cwd=PROJECT_ROOT, env=environment))
            say("ingestion      continuous; `iot status` shows how it goes")
        simulator = None
        if rate > 0:
            simulate = [program / "iot", "simulate", "--rate", f"{rate:g}"]
            simulator = stack.enter_context(
                owned(simulate, logs / "simulator.log", cwd=PROJECT_ROOT, env=environment, ending=signal.SIGINT)
            )
            say(f"simulator      {rate:g} messages a second")
        wait_for_ui(port, dagster, logs / "dagster.log")
        say(f"Dagster        http://{LOOPBACK}:{port}")
        say(f"logs           {logs}")
        say("Ctrl-C ends all of it.")
        if simulator:
            wait_until(lambda: simulator.has_ended or dagster.has_ended, math.inf)
            if simulator.has_ended:
                say(f"The simulator ended: {told(logs / 'simulator.log')}")
        code = dagster.wait()
        raise ServiceError(f"Dagster ended with exit code {code}: {told(logs / 'dagster.log')}", f"See {logs}")


def wait_for_ui(port: int, dagster: OwnedProcess, log: Path) -> None:
    """Return once the UI answers; ``ServiceError`` when Dagster ends before, or takes too long."""

    def answers_or_ended() -> bool:
        return dagster.has_ended or answers(port)

    if not wait_until(answers_or_ended, UI_SECONDS) or dagster.has_ended:
        raise ServiceError(f"Dagster does not start: {told(log)}", f"See {log}")


def answers(port: int) -> bool:
    """Whether Dagster's web server answers there."""
    address = f"http://{LOOPBACK}:{port}/server_info"
    with suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
        return answer.status == 200
    return False


def told(log: Path) -> str:
    """The line of the log that says most about an end."""
    return last_meaningful(log.read_text(encoding="utf-8", errors="replace"))


def main(arguments: list[str]) -> int:
    """The program; its exit code."""
    chosen = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        develop(load_settings(), chosen.port, chosen.rate, drain=chosen.drain)
    except PlatformError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        say("\nended")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
