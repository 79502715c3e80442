"""The process that really ingests, for its supervisor: ``python -m iot_platform.ingest.worker --owner PID``.

It ends with its owner, however that ends, so that no stream runs which nobody supervises. Ctrl-C at a terminal does not
reach it; SIGTERM has it finish the batch that runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from iot_platform.errors import PlatformError
from iot_platform.ingest.run import run_continuously
from iot_platform.ingest.sink import BatchResult
from iot_platform.local.supervisor import die_with
from iot_platform.settings import load_settings


def main(arguments: list[str]) -> int:
    """Ingest until told to stop; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m iot_platform.ingest.worker")
    parser.add_argument("--owner", type=int, required=True, help="the process that supervises this one")
    parser.add_argument("--accept-loss", action="store_true")
    chosen = parser.parse_args(arguments)
    die_with(chosen.owner)
    stop = threading.Event()

    def listen() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())

    listen()
    try:
        run_continuously(
            load_settings(), stop, on_ready=listen, on_batch=told, on_state=say, accept_loss=chosen.accept_loss
        )
    except PlatformError as error:
        say(f"iot: {error}")
        return error.exit_code
    return 0


def told(batch: BatchResult) -> None:
    """One line a batch."""
    say(f"batch {batch.batch_id}: {batch.messages:,} messages, {batch.quarantined:,} quarantined")


def say(line: str) -> None:
    """One line for whoever looks at the supervisor's standard error; a terminal that is gone is nobody's fault."""
    try:
        os.write(2, f"{line}\n".encode())
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
