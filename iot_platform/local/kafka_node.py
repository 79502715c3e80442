"""One KRaft node as files and a command line: its properties, its storage, its log. Nothing here starts a broker."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from iot_platform.errors import InputError, ServiceError
from iot_platform.local.jars import jar_files
from iot_platform.local.java import java_home
from iot_platform.local.process import LOOPBACK, make_folder
from iot_platform.settings import Settings

HEAP = "-Xmx512m"
FORMAT_SECONDS = 60
LOGGING = Path(__file__).with_name("kafka_log4j2.properties")
EXCEPTION_LINE = re.compile(r"^(?:Caused by: )?[\w.$]+(?:Exception|Error)\b.*")
ERROR_LINE = re.compile(r"^\S+ (?:ERROR|FATAL) (.*)")

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.dedupe.buffer.size=16777216
"""


@dataclass(frozen=True)
class KafkaNode:
    """The files of the one broker of an ``IOT_HOME``, all under ``services/kafka`` and ``logs/kafka``."""

    folder: Path
    logs: Path

    @classmethod
    def of(cls, settings: Settings) -> KafkaNode:
        return cls(settings.home / "services" / "kafka", settings.logs / "kafka")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def properties(self) -> Path:
        return self.folder / "kraft.properties"

    @property
    def server_log(self) -> Path:
        return self.logs / "server.log"

    @property
    def console_log(self) -> Path:
        """What the Java machine itself prints, above all when the broker cannot even start."""
        return self.logs / "console.log"

    @property
    def cluster_id(self) -> str:
        """The id that the storage was formatted with; an empty text before that."""
        try:
            found = re.search(r"^cluster\.id=(.+)$", (self.data / "meta.properties").read_text(), re.MULTILINE)
        except OSError:
            return ""
        return found.group(1).strip() if found else ""

    def prepare(self, settings: Settings, port: int, controller_port: int) -> None:
        """Write the properties for these ports, and format the storage if that was never done."""
        for folder in (self.folder, self.logs):
            make_folder(folder)
        if "," in str(self.data):
            raise InputError(f"{self.data} has a comma, where Kafka separates folders", "Choose another IOT_HOME")
        self.properties.write_text(
            PROPERTIES.format(
                host=LOOPBACK,
                port=port,
                controller_port=controller_port,
                data=escaped(str(self.data)),
            ),
            encoding="utf-8",
        )
        if not self.cluster_id:
            self._format(settings)

    def _format(self, settings: Settings) -> None:
        arguments = ["format", "--ignore-formatted", "--cluster-id", new_cluster_id(), "--config", str(self.properties)]
        command = self.java(settings, "kafka.tools.StorageTool", *arguments)
        try:
            done = subprocess.run(
                command, cwd=self.folder, capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ServiceError(
                f"Kafka's storage under {self.data} was not formatted within {FORMAT_SECONDS} s", "Run it again"
            ) from None
        if done.returncode or not self.cluster_id:
            raise ServiceError(
                f"Kafka's storage under {self.data} cannot be formatted: {last_meaningful(done.stdout + done.stderr)}",
                "Make room or set IOT_HOME to another folder",
            )

    def broker_command(self, settings: Settings) -> list[str]:
        """The command line of the broker; its last word, the properties file, tells whose it is."""
        return self.java(settings, "kafka.Kafka", str(self.properties))

    def java(self, settings: Settings, main: str, *arguments: str) -> list[str]:
        classpath = os.pathsep.join(str(jar) for jar in jar_files(settings, "kafka"))
        options = [
            HEAP,
            f"-Diot.logs={self.logs}",
            f"-Dlog4j2.configurationFile={LOGGING.as_uri()}",
            "-Dlog4j2.disableJmx=true",
            "-Djava.awt.headless=true",
            f"-XX:ErrorFile={self.logs}/crash-%p.log",
        ]
        return [str(java_home(settings) / "bin" / "java"), *options, "-cp", classpath, main, *arguments]

    def why(self, since: int) -> str:
        """The line that tells best why the broker ended: from its log after byte ``since``, else from Java's output."""
        return last_meaningful(_tail(self.server_log, since), _tail(self.console_log, 0))


def new_cluster_id() -> str:
    """A random id as Kafka writes them: 22 characters of base64 that do not look like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def escaped(text: str) -> str:
    """The text as a Java properties file holds it: in Latin letters, a backslash before a backslash."""
    units = text.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[position : position + 2]) for position in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def last_meaningful(*texts: str) -> str:
    """The last line that names an exception, else the last logged error, else the last line at all."""
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    for pattern in (EXCEPTION_LINE, ERROR_LINE):
        for line in reversed(lines):
            found = pattern.match(line)
            if found:
                return found.group(found.lastindex or 0).removeprefix("Caused by: ")
    return lines[-1] if lines else "it said nothing"


def size(path: Path) -> int:
    """Bytes in the file; 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def _tail(path: Path, since: int) -> str:
    """What was written after byte ``since``; all of it when the file is shorter by now (it was rolled over)."""
    if not path.exists():
        return ""
    content = path.read_bytes()
    return (content[since:] if len(content) >= since else content).decode(errors="replace")
