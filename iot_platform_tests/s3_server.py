"""A real S3 server on loopback for the tests: s3proxy over a folder, with keys that are made for this one run."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from iot_platform.local.jars import jar_files
from iot_platform.local.java import java_home
from iot_platform.local.owned import owned
from iot_platform.local.process import LOOPBACK, free_ports, wait_until
from iot_platform.settings import Settings

BUCKET = "lake"
START_SECONDS = 60
PROPERTIES = """\
s3proxy.endpoint=http://{host}:{port}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={access_key_id}
s3proxy.credential={secret_access_key}
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir={data}
"""
# Without it the server writes a line for each of its objects.
LOGGING = """\
<configuration>
  <appender name="console" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %level %logger %msg%n</pattern></encoder>
  </appender>
  <root level="warn"><appender-ref ref="console"/></root>
</configuration>
"""


@dataclass(frozen=True)
class S3Server:
    """Where it listens, its keys, and the folder that holds its one bucket."""

    endpoint: str
    bucket: Path
    access_key_id: str = field(default_factory=lambda: secrets.token_hex(10))
    secret_access_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    def lake(self) -> dict[str, Any]:
        """Settings of an empty lake that no other test has: ``make_settings(**s3.lake())``."""
        return {
            "lake": f"s3://{BUCKET}/{uuid4().hex[:8]}/tables",
            "aws_endpoint_url": self.endpoint,
            "aws_allow_http": True,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
        }


@contextmanager
def running_s3(settings: Settings) -> Iterator[S3Server]:
    """The server for the time of the block; it ends with this process, however that ends."""
    (port,) = free_ports(1)
    folder = settings.home / "s3"
    server = S3Server(f"http://{LOOPBACK}:{port}", folder / "data" / BUCKET)
    server.bucket.mkdir(parents=True)
    properties = folder / "s3proxy.properties"
    properties.touch(0o600)
    properties.write_text(
        PROPERTIES.format(
            host=LOOPBACK, port=port, data=server.bucket.parent,
            access_key_id=server.access_key_id, secret_access_key=server.secret_access_key,
        )
    )  # fmt: skip
    logging = folder / "logback.xml"
    logging.write_text(LOGGING)
    jars = ":".join(str(jar) for jar in jar_files(settings, "s3"))
    java = java_home(settings) / "bin" / "java"
    command = [java, "-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Dlogback.configurationFile={logging}", "-cp", jars]
    command += ["org.gaul.s3proxy.Main", "--properties", properties]
    log = folder / "server.log"
    with owned(command, log, cwd=folder) as process:
        assert wait_until(lambda: process.has_ended or _answers(port), START_SECONDS), log.read_text()
        assert not process.has_ended, log.read_text()
        yield server


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0
