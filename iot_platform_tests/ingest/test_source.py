"""The options of Spark's Kafka source."""

from __future__ import annotations

import json

from iot_platform.ingest.source import client_options, source_options
from iot_platform.settings import Settings


def test_the_source_reads_all_topics_from_exact_offsets_and_stops_at_a_loss(settings: Settings) -> None:
    options = source_options(settings, "host:9092", {"b": {0: 5, 1: 7}, "a": {0: 0}})
    assert options["subscribe"] == "a,b"
    assert json.loads(options["startingOffsets"]) == {"b": {"0": 5, "1": 7}, "a": {"0": 0}}
    assert options["failOnDataLoss"] == options["includeHeaders"] == "true"
    assert options["kafka.isolation.level"] == "read_committed"
    assert options["maxOffsetsPerTrigger"] == "2000000"


def test_security_options_get_javas_names() -> None:
    given = {
        "security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": 'p"\\',
        "ssl.ca.location": "/ca.pem", "linger.ms": "5",
    }  # fmt: skip
    assert client_options(given) == {
        "kafka.security.protocol": "SASL_SSL",
        "kafka.sasl.mechanism": "SCRAM-SHA-512",
        "kafka.ssl.truststore.location": "/ca.pem",
        "kafka.ssl.truststore.type": "PEM",
        "kafka.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required"
        ' username="u" password="p\\"\\\\";',
    }
    assert "PlainLoginModule" in client_options({"sasl.username": "u", "sasl.password": "p"})["kafka.sasl.jaas.config"]
    assert client_options({}) == {}
