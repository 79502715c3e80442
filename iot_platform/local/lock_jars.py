"""A maintainer's command, ``python -m iot_platform.local.lock_jars``: renew ``jars.lock``.

What to run is decided here; what that needs besides is resolved by jgo and written down with hashes, so that nobody
else ever resolves anything.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from iot_platform.local.jars import CONNECTIONS, LOCK_FILE, Jar, download, repository
from iot_platform.settings import Settings, load_settings

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
# Kafka's server logs through slf4j 1.7, which is silent without a backend: a broker that fails could not say why.
KAFKA_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:{log4j}"
# Spark's own jars come with pyspark. These are what it lacks for Kafka and Delta, each at the version that works with
# the others; nothing else that they would resolve to is needed. antlr is what Delta's SQL grammar was built with.
SPARK = (
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0",
    "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.0.0",
    "org.apache.kafka:kafka-clients:3.9.2",
    "org.apache.commons:commons-pool2:2.13.1",
    "io.delta:delta-spark_4.2_2.13:4.4.0",
    "io.delta:delta-storage:4.4.0",
    "org.antlr:antlr4-runtime:4.13.1",
)
# The tests' S3 server. It can stand before three clouds too, whose clients are most of what it resolves to: of that only
# what it loads to serve a folder is kept (seen with -verbose:class).
S3 = "org.gaul:s3proxy:4.1.0"
S3_LOADS = (
    S3, "args4j:", "ch.qos.logback:", "com.fasterxml.jackson.core:jackson-annotations:", "com.fasterxml.woodstox:",
    "com.google.guava:", "jakarta.servlet:", "org.codehaus.woodstox:", "org.slf4j:slf4j-api:",
    "software.amazon.", "tools.jackson.",
)  # fmt: skip
# Hadoop's client for S3, at the version of the Hadoop that pyspark brings: for a Spark engine whose lake lies in a bucket.
# It asks for all of AWS's SDK (686 MB); what it loads is the SDK's part for S3 and its two HTTP clients (13 MB). The SDK's
# version is that of the tests' server, so that both share the files. Its transfer manager copies objects, which nothing
# here does: only its classes must be there.
S3A = (
    "org.apache.hadoop:hadoop-aws:3.5.0",
    "org.reactivestreams:reactive-streams:1.0.4",
    "software.amazon.s3.analyticsaccelerator:analyticsaccelerator-s3:1.3.1",
    "software.amazon.awssdk:s3-transfer-manager:2.35.4",
)
S3A_HTTP = ("software.amazon.awssdk:apache-client:{sdk}", "software.amazon.awssdk:netty-nio-client:{sdk}")
HEADER = """\
# Maven coordinates and sha256 of every jar that is fetched. Written by `python -m iot_platform.local.lock_jars`.
"""


def resolve(endpoint: str, base: str) -> list[str]:
    """Coordinates of an artifact and of everything that it needs at run time."""
    import jgo

    artifacts = jgo.resolve(endpoint, repositories={"central": base})
    return [f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}" for artifact in artifacts]


def resolve_s3(base: str) -> list[str]:
    """Coordinates of the S3 server over a folder."""
    return [name for name in resolve(S3, base) if name.startswith(S3_LOADS)]


def s3a(server: Iterable[str]) -> list[str]:
    """Coordinates of Hadoop's client for S3, given those of the S3 server."""
    shared = [name for name in server if name.startswith("software.amazon.") and ":apache5-client:" not in name]
    versions = {name.split(":")[2] for name in shared if name.split(":")[1] == "sdk-core"}
    return [*S3A, *(name.format(sdk=sdk) for sdk in versions for name in S3A_HTTP), *shared]


def resolve_kafka(base: str) -> list[str]:
    """Coordinates of the Kafka server, everything that it needs at run time, and a logging backend."""
    found = resolve(KAFKA, base)
    log4j = next(name.split(":")[2] for name in found if name.split(":")[1] == "log4j-core")
    return [*found, KAFKA_LOGGING.format(log4j=log4j)]


def hashed(coordinates: Iterable[str], base: str) -> list[Jar]:
    """The jars with the hashes of what the repository serves now."""

    def one(name: str) -> Jar:
        with tempfile.TemporaryDirectory() as folder:
            return Jar(name, download(f"{base}/{Jar(name, '').path}", Path(folder) / "jar"))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        return sorted(pool.map(one, dict.fromkeys(coordinates)))


def lock_text(groups: dict[str, list[Jar]]) -> str:
    """The lock file's text: one section a group, one line a jar, in order."""
    sections = [
        "\n".join([f"[{group}]", *(f"{jar.coordinates} sha256:{jar.sha256}" for jar in jars)])
        for group, jars in groups.items()
    ]
    return HEADER + "\n" + "\n\n".join(sections) + "\n"


def renew(settings: Settings, path: Path = LOCK_FILE) -> int:
    """Resolve, hash, write; the number of jars locked."""
    base = repository(settings)
    server = resolve_s3(base)
    groups = {
        "kafka": hashed(resolve_kafka(base), base),
        "s3": hashed(server, base),
        "s3a": hashed(s3a(server), base),
        "spark": hashed(SPARK, base),
    }
    path.write_text(lock_text(groups), encoding="utf-8")
    return sum(len(jars) for jars in groups.values())


if __name__ == "__main__":
    sys.stdout.write(f"{renew(load_settings())} jars locked in {LOCK_FILE}\n")
