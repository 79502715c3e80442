"""The Kafka side of the stream, as options of Spark's source. The one place that knows how Java's client names things."""

from __future__ import annotations

import json
from collections.abc import Mapping

from iot_platform.settings import Settings

# What the Java client calls otherwise than the one that the settings speak of.
_RENAMED = {"sasl.mechanisms": "sasl.mechanism", "ssl.ca.location": "ssl.truststore.location"}
_SHARED = ("security.protocol", "sasl.mechanism", "ssl.", "sasl.jaas", "client.dns")


def source_options(settings: Settings, bootstrap: str, starting: Mapping[str, Mapping[int, int]]) -> dict[str, str]:
    """All topics of ``starting``, from exactly those offsets when the checkpoint knows none; loss stops the stream."""
    return {
        "kafka.bootstrap.servers": bootstrap,
        "subscribe": ",".join(sorted(starting)),
        "startingOffsets": json.dumps({topic: {str(p): o for p, o in ps.items()} for topic, ps in starting.items()}),
        "includeHeaders": "true",
        "failOnDataLoss": "true",
        "maxOffsetsPerTrigger": str(settings.max_offsets_per_trigger),
        "kafka.isolation.level": "read_committed",
        # A broker that is away is noticed within half a minute; the stream is then started again by its supervisor.
        "kafka.default.api.timeout.ms": "20000",
        "kafka.request.timeout.ms": "15000",
        **client_options(settings.kafka_options),
    }


def client_options(options: Mapping[str, str]) -> dict[str, str]:
    """librdkafka's security options as Java's client takes them; the others concern only producers here."""
    found: dict[str, str] = {}
    for name, value in options.items():
        java = _RENAMED.get(name, name)
        if java.startswith(_SHARED):
            found[f"kafka.{java}"] = value
    if options.get("ssl.ca.location"):
        found["kafka.ssl.truststore.type"] = "PEM"
    user, password = options.get("sasl.username"), options.get("sasl.password")
    if user is not None and password is not None:
        is_plain = found.get("kafka.sasl.mechanism", "PLAIN") == "PLAIN"
        module = "plain.PlainLoginModule" if is_plain else "scram.ScramLoginModule"
        quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in (user, password))
        found["kafka.sasl.jaas.config"] = (
            f'org.apache.kafka.common.security.{module} required username="{next(quoted)}" password="{next(quoted)}";'
        )
    return found
