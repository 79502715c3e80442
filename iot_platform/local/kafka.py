"""The local broker: one KRaft node on loopback for each ``IOT_HOME``, and how everybody finds the broker to talk to.

It runs in one of two ways. *Detached* (``start``): it goes on until ``stop``. *Owned* (``running_kafka``): it ends with the
process that asked for it, by whatever end. A broker of the user's own (``IOT_KAFKA_BOOTSTRAP``) is only looked at.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from iot_platform.errors import ServiceError
from iot_platform.local.kafka_client import admin_client, cluster
from iot_platform.local.kafka_node import KafkaNode, size
from iot_platform.local.owned import OwnedProcess, start_owned
from iot_platform.local.process import (
    LOOPBACK,
    ProcessIdentity,
    end,
    free_ports,
    is_port_free,
    locked,
    read_state,
    wait_until,
    write_state,
)
from iot_platform.settings import Settings

USUAL_PORTS = (19092, 19093)  # clients, controller
START_SECONDS = 90
STOP_SECONDS = 20
ANSWER_SECONDS = 5
PORT_ATTEMPTS = 3
Mode = Literal["detached", "owned", "external"]


@dataclass(frozen=True)
class KafkaService:
    """A broker that runs: its address and, for a local one, its process (``started_at`` in epoch seconds)."""

    bootstrap: str
    mode: Mode
    pid: int = 0
    started_at: float = 0.0
    port: int = 0
    controller_port: int = 0
    owner_pid: int = 0

    @property
    def identity(self) -> ProcessIdentity:
        return ProcessIdentity(self.pid, self.started_at)


@dataclass(frozen=True)
class KafkaStatus:
    """``running``: it answers; ``unreachable``: it should be there and does not answer; ``stopped``: there is none."""

    state: Literal["running", "unreachable", "stopped"]
    service: KafkaService | None
    logs: Path


def start(settings: Settings) -> KafkaService:
    """Start the broker and leave it running; returns once it answers. One that runs already is returned as it is.

    Raises ``ServiceError`` when it does not come up, with the broker's own reason.
    """
    if settings.kafka_bootstrap:
        return _external(settings)
    with locked(_lock_file(settings), START_SECONDS):
        return _found(settings) or _launch(settings, "detached")[0]


@contextmanager
def running_kafka(settings: Settings) -> Iterator[KafkaService]:
    """A broker for the time of the block, which ends with this process even when that is killed.

    One that runs already (or ``IOT_KAFKA_BOOTSTRAP``) is used and left running.
    """
    if settings.kafka_bootstrap:
        yield _external(settings)
        return
    with locked(_lock_file(settings), START_SECONDS):
        found = _found(settings)
        service, owned = (found, None) if found else _launch(settings, "owned")
    try:
        yield service
    finally:
        if owned:
            _abandon(settings, service, owned)


def stop(settings: Settings) -> KafkaService | None:
    """End the local broker of this ``IOT_HOME``, however it was started; None when there was none."""
    with locked(_lock_file(settings), START_SECONDS):
        service = running_service(settings)
        if service:
            end(service.identity, STOP_SECONDS)
            _forget(settings, service)
        _end_strays(settings)
        return service


def status(settings: Settings) -> KafkaStatus:
    """How the broker is; asks it, waits at most ``ANSWER_SECONDS``."""
    logs = KafkaNode.of(settings).logs
    if settings.kafka_bootstrap:
        service = KafkaService(settings.kafka_bootstrap, "external")
    else:
        service = running_service(settings)
        if service is None:
            return KafkaStatus("stopped", None, logs)
    answers = cluster(settings, service.bootstrap, ANSWER_SECONDS) is not None
    return KafkaStatus("running" if answers else "unreachable", service, logs)


def bootstrap(settings: Settings) -> str:
    """The broker's address: ``IOT_KAFKA_BOOTSTRAP``, else the running local one; ``ServiceError`` when there is none."""
    if settings.kafka_bootstrap:
        return settings.kafka_bootstrap
    service = running_service(settings)
    if service is None:
        raise ServiceError("no Kafka broker is running", "Run `iot services up`, or set IOT_KAFKA_BOOTSTRAP to yours")
    return service.bootstrap


def running_service(settings: Settings) -> KafkaService | None:
    """The local broker of this ``IOT_HOME`` if its process runs; it may not answer yet. Asks nobody, takes no lock."""
    state = read_state(_state_file(settings))
    try:
        service = KafkaService(**state)
    except TypeError:
        return None
    return service if service.pid and service.identity.is_running else None


def _found(settings: Settings) -> KafkaService | None:
    """The broker that runs already, once it answers: whoever started it may have been killed before it did."""
    service = running_service(settings)
    if service and not _becomes_ready(settings, service, KafkaNode.of(settings)):
        raise ServiceError(
            f"Kafka (pid {service.pid}) runs and does not answer on {service.bootstrap}",
            "Run `iot services down`, then try again",
        )
    return service


def _external(settings: Settings) -> KafkaService:
    if cluster(settings, settings.kafka_bootstrap, ANSWER_SECONDS) is None:
        raise ServiceError(
            f"the Kafka broker at {settings.kafka_bootstrap} does not answer",
            "Start it, or correct IOT_KAFKA_BOOTSTRAP and IOT_KAFKA_OPTIONS",
        )
    return KafkaService(settings.kafka_bootstrap, "external")


def _launch(settings: Settings, mode: Mode) -> tuple[KafkaService, OwnedProcess | None]:
    """Start a broker and wait until it answers; on ports that are free, others when somebody was faster."""
    _end_strays(settings)
    node = KafkaNode.of(settings)
    ports = choose_ports(settings)
    for attempt in range(1, PORT_ATTEMPTS + 1):
        node.prepare(settings, *ports)
        log_start = size(node.server_log)
        command = node.broker_command(settings)
        owned = start_owned(command, node.console_log, cwd=node.folder) if mode == "owned" else None
        pid = owned.pid if owned else _start_detached(node, command)
        try:
            identity = ProcessIdentity.of(pid)
        except psutil.NoSuchProcess:
            identity = ProcessIdentity(pid, 0.0)
        service = KafkaService(
            bootstrap=f"{LOOPBACK}:{ports[0]}",
            mode=mode,
            pid=pid,
            started_at=identity.started_at,
            port=ports[0],
            controller_port=ports[1],
            owner_pid=os.getpid() if mode == "owned" else 0,
        )
        write_state(_state_file(settings), asdict(service))
        try:
            if _becomes_ready(settings, service, node):
                return service, owned
        except BaseException:
            _abandon(settings, service, owned)
            raise
        still_runs = identity.is_running
        _abandon(settings, service, owned)
        reason = node.why(log_start)
        if "already in use" in reason and attempt < PORT_ATTEMPTS:
            ports = tuple(free_ports(2))
            continue
        raise ServiceError(
            f"Kafka did not answer within {START_SECONDS} s: {reason}"
            if still_runs
            else f"Kafka ended while starting: {reason}",
            f"See {node.server_log} and {node.console_log}",
        )
    raise AssertionError("unreachable: the last attempt returns or raises")


def choose_ports(settings: Settings) -> tuple[int, ...]:
    """Ports for clients and controller: those of the last time, else the usual, else any that are free."""
    last = read_state(_state_file(settings))
    for ports in ((last.get("port"), last.get("controller_port")), USUAL_PORTS):
        if all(isinstance(port, int) and port and is_port_free(port) for port in ports):
            return ports  # pyright: ignore[reportReturnType]
    return tuple(free_ports(2))


def _becomes_ready(settings: Settings, service: KafkaService, node: KafkaNode) -> bool:
    """Ask until it is our cluster that answers with a broker, or its process is gone, or time is over."""
    deadline = time.monotonic() + START_SECONDS
    # One client for all the asking: each has threads of its own. Local brokers know no security options.
    client = admin_client(settings.model_copy(update={"kafka_options": {}}), service.bootstrap)
    from confluent_kafka import KafkaException

    while time.monotonic() < deadline:
        if not service.identity.is_running:
            return False
        with suppress(KafkaException):
            answer = client.list_topics(timeout=0.5)
            if answer.brokers and answer.cluster_id == node.cluster_id:
                return True
    return False


# Brokers left running: dropping the handle of a live process would make Python warn of it.
_left_running: list[subprocess.Popen[bytes]] = []


def _start_detached(node: KafkaNode, command: list[str]) -> int:
    with node.console_log.open("wb") as console:
        launched = subprocess.Popen(
            command,
            cwd=node.folder,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _left_running.append(launched)
    return launched.pid


def _abandon(settings: Settings, service: KafkaService, owned: OwnedProcess | None) -> None:
    end(service.identity, STOP_SECONDS)
    if owned:
        owned.close()
    _forget(settings, service)


def _forget(settings: Settings, service: KafkaService) -> None:
    """Remember the ports only: the next broker of this home takes them again."""
    state: dict[str, Any] = {"port": service.port, "controller_port": service.controller_port}
    write_state(_state_file(settings), state)


def _end_strays(settings: Settings) -> None:
    """End brokers of this home that no state file knows: of a start that was killed, of a home that was deleted."""
    properties = str(KafkaNode.of(settings).properties)
    strays: list[ProcessIdentity] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[-2:] == ["kafka.Kafka", properties]:
                strays.append(ProcessIdentity.of(process.pid))
    for stray in strays:
        end(stray, STOP_SECONDS)
    wait_until(lambda: not any(stray.is_running for stray in strays), STOP_SECONDS)


def _state_file(settings: Settings) -> Path:
    return settings.home / "services" / "kafka.json"


def _lock_file(settings: Settings) -> Path:
    return settings.home / "services" / "kafka.lock"
